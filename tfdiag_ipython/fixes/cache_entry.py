"""Delete one entry of the Hub's cache: the blob and the links to it, and nothing else; the next load fetches it anew."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.probe import Cell


class DeleteCacheEntry(Plan):
    """Removes ``links`` (paths in a repository's snapshots) and the ``blob`` to which they lead; then the failing cell runs again.

    ``size`` is the blob's when it was looked at: a file that has changed since is left alone.
    """

    undoable = False

    def __init__(
        self,
        host: Host,
        blob: str,
        links: Sequence[str],
        size: int,
        *,
        reruns: tuple[Cell, ...] = (),
        failure: Failure | None = None,
    ) -> None:
        super().__init__(host, reruns=reruns, failure=failure)
        self.blob, self.links, self.size = blob, tuple(links), size

    def preview(self) -> Preview:
        paths = dict.fromkeys((*self.links, self.blob))
        lines = [f"delete {path}" for path in paths]
        note = (
            f"Frees {self.size:,} bytes. It cannot be undone; the cell then fetches this one file from the Hub again."
        )
        return Preview("bytes", "\n".join(lines), note)

    def execute(self, progress: Progress) -> str:
        try:
            if os.path.getsize(self.blob) != self.size:
                raise PlanError("The file has changed since it was looked at: nothing was deleted.")
            for path in dict.fromkeys((*self.links, self.blob)):
                if os.path.lexists(path):
                    os.unlink(path)
        except OSError as error:
            raise PlanError(f"`{error.filename}` could not be deleted: {error.strerror}.") from None
        return f"Deleted {os.path.basename(self.links[0])} from the Hub's cache ({self.size:,} bytes)."
