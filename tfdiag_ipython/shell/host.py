"""What plans may ask of an IPython shell: run a cell, let go of the failed one's objects, restart the kernel."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import ExecutionResult

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure, Raised
from tfdiag_ipython.fix import RunResult
from tfdiag_ipython.fixes.memory import clear_traceback
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.shell.scene import Mark, Released, is_new, mark, newest_exception, put

if TYPE_CHECKING:
    from tfdiag_ipython.shell.extension import Extension

AWAITS = "This cell awaits something, which a button cannot: run the cell again yourself; I will check it then."
ELSEWHERE = "The cell cannot be run from here: run it again yourself; I will check it then."
ASKS = "This cell asks for input, which a button cannot: run the cell again yourself; I will check it then."
RESTART_BY_HAND = "tfdiag cannot restart the program from here: use Kernel → Restart, or start IPython again."
RESTART_AFTER = 0.3
"""Seconds between the click and the end of the kernel, in which the answer reaches the front end."""


class ShellHost:
    """The :class:`tfdiag_ipython.fix.Host` of one failure in an IPython shell."""

    def __init__(self, extension: Extension, failure: Failure, seen: Mark | None) -> None:
        self.extension = extension
        self.failure = failure
        self.seen = seen
        self.failed: tuple[Failure, Cell] | None = None  # the newest that a fix ran
        self._runs_no_cells = False

    @property
    def namespace(self) -> MutableMapping[str, Any]:
        return self.extension.shell.user_ns  # type: ignore[no-any-return]

    @property
    def cuda_dead(self) -> bool:
        return self.extension.cuda_dead

    def run(self, cell: Cell) -> RunResult:
        """Run a cell as the shell would, outside the history; its traceback is shown as always where it fails."""
        shell = self.extension.shell
        if self._runs_no_cells or threading.current_thread() is not threading.main_thread():
            return RunResult(deferred=ELSEWHERE)
        if _loop_runs() and _awaits(shell, cell.source):
            return RunResult(deferred=AWAITS)
        earlier = newest_exception()
        if earlier is not None and is_new(earlier):
            mark(earlier)
        del earlier
        with self.extension.listener.deaf():
            result = shell.run_cell(cell.source, store_history=False, silent=False)
        exception = _error_of(result)
        if exception is None:
            return RunResult()
        failure = Failure.from_exception(exception, source=cell.source, cell=cell.label)
        self._recognize(exception, failure)
        self.failed = failure, cell
        if failure.top.is_a("EOFError", "StdinNotImplementedError") and "input(" in cell.source:
            return RunResult(deferred=ASKS)
        return RunResult(failure)

    def without_cells(self, action: Callable[[], None]) -> None:
        """Do this, and run no cell meanwhile."""
        self._runs_no_cells = True
        try:
            action()
        finally:
            self._runs_no_cells = False

    def _recognize(self, exception: BaseException, failure: Failure) -> None:
        """A cell that fails as before takes over the identity of the failure, so that its scene can be looked at again."""
        before = self.failure.top if self.failure.chain else None
        if self.seen is not None and before is not None and _same(failure.top, before):
            put(exception, self.seen)
        else:
            mark(exception)

    def release(self) -> None:
        """Let go of all that the shell keeps of the failed cell; ``%tb`` prints the same as before."""
        shell = self.extension.shell
        exception = newest_exception()
        if exception is not None and not isinstance(exception, Released):
            _replace_last(shell, exception)
            clear_traceback(exception)
        del exception
        debugger = getattr(shell.InteractiveTB, "pdb", None)
        for owner, names in (
            (shell.InteractiveTB, ("tb", "etype", "evalue")),
            (debugger, ("botframe", "stopframe", "curframe", "stack")),
        ):
            for name in names:
                if getattr(owner, name, None) is not None:
                    setattr(owner, name, [] if name == "stack" else None)
        shell.last_execution_result = None

    def delete(self, name: str) -> None:
        """IPython's own way, which also finds ``Out``, ``_`` and what its display hook keeps."""
        shell = self.extension.shell
        name = re.sub(r"^Out\[(\d+)\]$", r"_\1", name)
        if name not in shell.user_ns:
            return
        released = shell.last_execution_result is None
        if released:  # IPython looks into it all the same
            shell.last_execution_result = ExecutionResult(None)
        shell.del_var(name)
        if released:
            shell.last_execution_result = None

    def restart(self, again: Sequence[Cell] = ()) -> None:
        """End this kernel; whoever started it (Jupyter's server, Colab) starts it again, and the new one is told what to run."""
        kernel = getattr(self.extension.shell, "kernel", None)
        loop = getattr(kernel, "io_loop", None)
        if kernel is None or loop is None or not hasattr(kernel, "do_shutdown"):
            raise PlanError(RESTART_BY_HAND)
        self.extension.handover.leave(again)
        loop.call_later(RESTART_AFTER, kernel.do_shutdown, True)


def _same(after: Raised, before: Raised) -> bool:
    return (after.types, after.message) == (before.types, before.message)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _awaits(shell: Any, source: str) -> bool:
    try:
        transformed = shell.transform_cell(source)
    except Exception:  # a cell that cannot be transformed fails by itself
        return False
    return bool(shell.should_run_async(source, transformed_cell=transformed))


def _error_of(result: Any) -> BaseException | None:
    """How the cell ended, those errors included that a magic showed and swallowed."""
    error = result.error_before_exec or result.error_in_exec
    if isinstance(error, BaseException):
        return error
    newest = newest_exception()
    return newest if newest is not None and is_new(newest) else None


def _replace_last(shell: Any, exception: BaseException) -> None:
    """Put a stand-in of text alone into ``sys.last_*``, with a traceback that leads nowhere, so that ``%debug`` has one.

    The failed cell's own traceback would keep IPython's frames, and these their results, even when it is cleared.
    """
    shown = getattr(shell, "_last_traceback", None)
    if not isinstance(shown, list):
        try:
            shown = shell.InteractiveTB.structured_traceback(type(exception), exception, exception.__traceback__)
        except (
            Exception
        ):  # ultratb is known to fail on some tracebacks; so does IPython itself, which then does the same
            shown = traceback.format_exception(type(exception), exception, exception.__traceback__)
    lines = [str(line) for line in shown]
    kind = type(type(exception).__name__, (Released,), {"_render_traceback_": lambda self: list(lines)})
    nowhere = _traceback_of_nothing()
    stand_in = kind().with_traceback(nowhere)
    sys.last_type, sys.last_value, sys.last_traceback = kind, stand_in, nowhere
    if hasattr(sys, "last_exc"):
        sys.last_exc = stand_in


def _traceback_of_nothing() -> TracebackType | None:
    """A traceback of one frame, made in a thread so that no caller's frame hangs on it."""
    made: list[TracebackType | None] = []

    def released() -> None:
        try:
            raise Released  # what the failed cell held was released, at the click of a button
        except Released as error:
            made.append(error.__traceback__)

    thread = threading.Thread(target=released)
    thread.start()
    thread.join()
    return made.pop()
