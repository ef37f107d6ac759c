"""What this kernel got from the one before it, told once, and what it leaves to the next."""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.shell.crumb import Crumb, predecessor
from tfdiag_ipython.shell.journal import fault
from tfdiag_ipython.shell.successor import after_restart, is_restarted, leave, take

if TYPE_CHECKING:
    from tfdiag_ipython.probe import Cell
    from tfdiag_ipython.shell.extension import Extension


class Handover:
    """Of one kernel; a terminal has no part in it."""

    def __init__(self, extension: Extension) -> None:
        self._extension = extension
        self.crumb: Crumb | None = None
        self._left: tuple[Mapping[str, Any] | None, list[Cell]] = (None, [])

    def open(self) -> None:
        """tfdiag is loaded: take what the kernel before left."""
        self.crumb = Crumb.of(self._extension.shell)
        if self.crumb is None:
            return
        atexit.register(self._leave)
        self._left = predecessor(self.crumb), take(self.crumb.path)
        if _in_a_cell(self._extension.shell):
            self.tell()

    def close(self) -> None:
        """tfdiag is unloaded."""
        if self.crumb is not None:
            atexit.unregister(self._leave)
            self.crumb.close()

    @property
    def waits(self) -> bool:
        """Whether there is something to tell when a cell has run."""
        return any(self._left)

    def begin(self, source: str, stored: bool) -> None:
        """Note the cell for the case that the kernel does not survive it."""
        if self.crumb is not None:
            inputs = getattr(getattr(self._extension.shell, "history_manager", None), "input_hist_raw", ())
            self.crumb.begin(source, len(inputs) if stored else 0)  # the counter is ahead of it in IPython 9

    def end(self, seconds: float) -> None:
        """The kernel survived it."""
        if self.crumb is not None:
            self.crumb.end(seconds)

    def leave(self, again: Sequence[Cell]) -> None:
        """Have the next kernel list these cells, to be run again."""
        if again and self.crumb is not None:
            leave(self.crumb.path, again)

    def _leave(self) -> None:
        """The kernel ends. Is it restarted, as the last diagnosis advised, by the toolbar: leave the same list as tfdiag's own restart."""
        try:
            last = self._extension.last
            if last is not None and last is self._extension.diagnosed and is_restarted(self._extension.shell.kernel):
                self.leave(after_restart(last))
        except Exception:
            fault("The cells to be run again were not left.")

    def tell(self) -> None:
        """Tell once what the kernel before this one left: below a cell, for what is shown before the first one goes nowhere."""
        (note, cells), self._left = self._left, (None, [])
        if note is not None:
            self._tell_of(note)
        self._tell_again(cells)

    def _tell_again(self, cells: Sequence[Cell]) -> None:
        """This kernel was restarted from a panel: say which cells are to be run again."""
        if not cells:
            return
        try:
            from tfdiag_ipython.rules.ker.kernel_restarted import restarted

            self._extension.diagnose(restarted(*((cell.number, cell.source) for cell in cells)), None, None, None)
        except Exception:
            fault("What the kernel before left to be run could not be told.")

    def _tell_of(self, note: Mapping[str, Any]) -> None:
        """The kernel before this one was ended in the middle of a cell: say what is known of it."""
        try:
            from tfdiag_ipython.failure import Failure
            from tfdiag_ipython.redact import redact
            from tfdiag_ipython.rules.mem.kernel_ended_abruptly import ENDED, MESSAGE

            facts = {**note, "line": redact(str(note.get("line", "")))}
            self._extension.diagnose(Failure.from_finding(ENDED, MESSAGE, facts), None, None, None)
        except Exception:
            fault("What the kernel before left could not be told.")


def _in_a_cell(shell: Any) -> bool:
    """Whether a cell runs: an extension of the configuration file is loaded before there is one."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return True
    try:
        return bool(kernel.get_parent("shell").get("header"))
    except Exception:  # there has been no request yet, or the kernel has its own ways
        return False
