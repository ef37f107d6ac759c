"""Restart the kernel: the only remedy for a dead CUDA context and for modules that are loaded in an old version."""

from __future__ import annotations

from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.probe import Cell

FROM_THE_TOP = "Run the cells again from the top."


class RestartKernel(Plan):
    """Ends this kernel process and starts a new one; all variables are lost.

    Nothing runs by itself afterwards: what failed may be slow, and nobody would see it begin. ``then`` says what to run.
    """

    undoable = False

    def __init__(self, host: Host, then: str = "") -> None:
        super().__init__(host)
        self._then = then

    def preview(self) -> Preview:
        count = sum(1 for name in self.host.namespace if not name.startswith("_"))
        return Preview(
            "text",
            f"Restart the kernel: its {count} variables are lost. {self._then}".strip(),
            "This cannot be undone.",
        )

    def execute(self, progress: Progress) -> str:
        self.host.restart()
        return f"The kernel restarts. {self._then or FROM_THE_TOP}"


def with_guard(cell: Cell | None) -> str:
    """What to run after the restart so that the index guard is on where the failure was, with the source to run."""
    if cell is None:
        return "Run the cells again from the top, the failing one under `%%tfdiag --guard`."
    first, _, rest = cell.source.lstrip().partition("\n")
    if first.startswith("%%tfdiag"):
        source = cell.source.lstrip() if {"--guard", "-g"} & set(first.split()) else f"{first} --guard\n{rest}"
    else:
        source = f"%%tfdiag --guard\n{cell.source}"
    before = f"the cells before {cell.label}" if cell.number else "the cells before the failing one"
    return f"Run {before} again, then this: the guard stops the bad index before it reaches the GPU, and names it.\n\n{source}"
