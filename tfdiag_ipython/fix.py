"""Remedies in two steps: a plan that states its effect, and its execution (the habit of ``DeleteCacheStrategy``)."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from tfdiag_ipython.addresses import hide_logins
from tfdiag_ipython.bindings import Bindings
from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError, TfdiagError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Cell


@dataclass(frozen=True)
class Preview:
    """What a plan would do: a unified diff, a command line, bytes to be freed, or a sentence."""

    kind: Literal["diff", "command", "bytes", "text"]
    text: str
    note: str = ""


@dataclass(frozen=True)
class RunResult:
    """How a cell ended: ``failure`` is ``None`` when it succeeded; ``deferred`` says that it cannot be run from here."""

    failure: Failure | None = None
    deferred: str = ""


class Host(Protocol):
    """What a plan may ask of the place in which the program runs (a notebook's kernel, a terminal, a test)."""

    @property
    def namespace(self) -> MutableMapping[str, Any]: ...

    @property
    def cuda_dead(self) -> bool:
        """Whether this process's CUDA context is dead, so that CUDA must not be touched any more."""

    def run(self, cell: Cell) -> RunResult:
        """Run this source as a cell of the person's, outside the history."""

    def release(self) -> None:
        """Let go of the last traceback and of everything else that holds the failed cell's objects."""

    def delete(self, name: str) -> None:
        """Delete a variable (or ``Out[3]``) with every other name that the shell keeps for the same object."""

    def restart(self, again: Sequence[Cell] = ()) -> None:
        """Restart the kernel after this callback, and tell it which cells are to be run again; raises ``PlanError`` where that is impossible."""


class Cancelled(TfdiagError):
    """The person pressed Cancel."""


class Progress:
    """How far a plan or probe is; the view gives ``show``, the person may set ``cancel``."""

    def __init__(self, show: Callable[[str, float | None], None] | None = None) -> None:
        self._show = show
        self._cancel = threading.Event()

    def report(self, text: str, fraction: float | None = None) -> None:
        """Say what is being done; raises :class:`Cancelled` when the person no longer wants it."""
        if self._cancel.is_set():
            raise Cancelled("Cancelled.")
        if self._show is not None:
            self._show(text, fraction)

    def cancel(self) -> None:
        self._cancel.set()


class Plan(ABC):
    """A fix worked out for one scene. It holds plain data only, never an object of the failed cell."""

    undoable: bool = True
    changes: ClassVar[bool] = True
    """Whether it changes anything; a plan that only looks is carried out at the first click."""
    threaded: ClassVar[bool] = False
    """Whether ``execute`` touches none of the person's objects, so that a view may run it beside the kernel's main thread."""

    def __init__(self, host: Host, *, reruns: tuple[Cell, ...] = (), failure: Failure | None = None) -> None:
        self.host = host
        self.reruns = reruns
        self.failure = failure
        self.bindings: Bindings | None = None
        self.forgotten = False

    @abstractmethod
    def preview(self) -> Preview:
        """What ``execute`` would change; changes nothing itself."""

    @abstractmethod
    def execute(self, progress: Progress) -> str:
        """Do it, and say in one sentence what was done; raises ``PlanError`` when it cannot be done."""

    def undo(self) -> str:
        """Take it back, and say so in one sentence."""
        raise PlanError("This fix cannot be undone.")

    def then_runs(self) -> str:
        """The sentence of the preview that says what :meth:`verify` will run."""
        names = ", ".join(cell.label for cell in self.reruns)
        if len(self.reruns) < 2:
            return f"Then runs {names} again." if names else ""
        return f"Then runs again, in this order: {names}."

    def put_back(self, made_anew: Collection[str] = ()) -> str:
        """Bind what the cells bound that :meth:`verify` ran to what it was before, and say so, but of ``made_anew``."""
        bindings, self.bindings = self.bindings, None
        if bindings is None:
            return ""
        lost = [name for name in bindings.lost if name not in made_anew]
        back = bindings.restore()
        told = [f"Put back: {_names(back)}."] if back else []
        if lost:
            told.append(f"Not put back, for only plain values are kept: {_names(lost)}.")
        return " ".join(told)

    def forget(self) -> None:
        """Another cell begins to run: let go of what was kept for Undo, which might take back that cell's work."""
        self.bindings = None
        self.forgotten = True

    def verify(self, progress: Progress) -> Verification:
        """Run the cells that must succeed now, in order; the first failure ends it."""
        if not self.reruns:
            return Verification(Status.NOT_CHECKED, "Nothing was run again.")
        bindings = Bindings(self.host.namespace)
        try:
            return self._run_again(progress)
        finally:
            bindings.settle()
            self.bindings = bindings

    def run(self, cell: Cell) -> RunResult:
        """How :meth:`verify` runs a cell."""
        return self.host.run(cell)

    def _run_again(self, progress: Progress) -> Verification:
        for number, cell in enumerate(self.reruns):
            progress.report(f"Running {cell.label} …", number / len(self.reruns) if self.reruns[1:] else None)
            result = self.run(cell)
            if result.deferred:
                return Verification(Status.PENDING, result.deferred)
            if result.failure is not None and result.failure.top.is_a("KeyboardInterrupt"):
                return Verification(Status.NOT_CHECKED, f"You stopped {cell.label}.")
            if result.failure is not None:
                return compare(self.failure, result.failure, cell)
        names = ", ".join(cell.label for cell in self.reruns)
        return Verification(Status.VERIFIED, f"{names[0].upper()}{names[1:]} ran without an error.")


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def compare(before: Failure | None, after: Failure, cell: Cell) -> Verification:
    """Say whether ``after`` is the failure that was to be cured or another one."""
    first = hide_logins(after.top.message.strip().partition("\n")[0])[:200]
    told = f"{cell.label} raised {after.top.name}: {first}".rstrip(": ")
    same = (
        before is not None and after.top.types[:1] == before.top.types[:1] and after.top.message == before.top.message
    )
    return Verification(Status.STILL_FAILING if same else Status.OTHER_FAILURE, f"{told[0].upper()}{told[1:]}")
