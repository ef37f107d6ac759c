"""Restart the kernel: the only remedy for a dead CUDA context and for modules that are loaded in an old version. And what comes then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Host, Plan, Preview, Progress, RunResult
from tfdiag_ipython.fixes.cells import that_ended_well
from tfdiag_ipython.probe import Cell, Scene

RESTART = "Restart the kernel"
LOST = "All variables are lost, and no cell runs by itself: then run the cells again, in their order."
"""What a restart costs, and what is to be done: with it stands every offer of one."""
THEN_RESTART = "Then restart the kernel (all variables are lost)"
NOW_RESTART = "Restart the kernel (all variables are lost), and run the cells again"
FROM_THE_TOP = "Then run the cells again, in their order."
PAGE = "The page may say that the kernel died: that is this restart."
LISTED = "Then `%load_ext tfdiag` lists the cells to run again, and runs them when you ask for it"
GUARDED = ", the failing one with the index guard on, which stops the bad index before it reaches the GPU, and names it"
OPTIONS = ("--guard", "-g")


class RestartKernel(Plan):
    """Ends this kernel process and starts a new one; all variables are lost.

    Nothing runs by itself afterwards: what failed may be slow, and nobody would see it begin. The new kernel is told which cells were
    run, up to the failing one, which is to be run with the index guard on if it is ``guarded``.
    """

    undoable = False

    def __init__(self, host: Host, again: Sequence[Cell] = (), *, guarded: bool = False) -> None:
        super().__init__(host)
        self.again = tuple(again)
        self._then = f"{LISTED}{GUARDED if guarded else ''}." if again else FROM_THE_TOP

    def preview(self) -> Preview:
        count = sum(1 for name in self.host.namespace if not name.startswith("_"))
        return Preview(
            "text",
            f"Restart the kernel: its {count} variables are lost. {self._then}",
            f"This cannot be undone. {PAGE}",
        )

    def execute(self, progress: Progress) -> str:
        self.host.restart(self.again)
        return "The kernel restarts."

    def verify(self, progress: Progress) -> Verification:
        return Verification(Status.PENDING, self._then.removeprefix("Then "))


def restart(scene: Scene, *, guarded: bool = False) -> RestartKernel:
    """The restart after which the cells of this scene are to be run again; raises :class:`PlanError` without a host."""
    if scene.host is None:
        raise PlanError("The program that failed is not known here: restart the kernel by hand.")
    cells = that_ended_well(scene.cells)
    if cells and guarded:
        cells[-1] = replace(cells[-1], source=with_guard(cells[-1].source))
    return RestartKernel(scene.host, cells, guarded=guarded)


def with_guard(source: str) -> str:
    """The source of a cell with the index guard on."""
    first, _, rest = source.lstrip().partition("\n")
    if not first.startswith("%%tfdiag"):
        return f"%%tfdiag --guard\n{source}"
    return source.lstrip() if guards(source) else f"{first} --guard\n{rest}"


def guards(source: str) -> bool:
    """Whether a cell begins with ``%%tfdiag --guard``."""
    words = source.lstrip().partition("\n")[0].split()
    return words[:1] == ["%%tfdiag"] and bool(set(OPTIONS) & set(words))


class RunAgain(Plan):
    """Runs cells in their order until one fails; one that begins with ``%%tfdiag --guard`` runs with the index guard on."""

    undoable = False

    def __init__(self, host: Host, cells: Sequence[Cell]) -> None:
        super().__init__(host, reruns=tuple(cells))

    def preview(self) -> Preview:
        listed = "\n\n".join(f"# {cell.label}\n{cell.source}" for cell in self.reruns)
        return Preview("text", listed, "In this order, until one fails; their output stands here. Stop ends it.")

    def execute(self, progress: Progress) -> str:
        return "They ran as copies, which the history does not list."

    def run(self, cell: Cell) -> RunResult:
        if not guards(cell.source):
            return super().run(cell)
        from tfdiag_ipython.watch.index_guard import IndexGuard

        with IndexGuard():  # cells that a fix runs are not observed
            return super().run(cell)
