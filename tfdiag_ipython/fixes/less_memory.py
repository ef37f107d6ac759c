"""Edits of a training's arguments that need less memory, with the peak measured while the edited cells run."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Host, Progress
from tfdiag_ipython.fixes.aliases import imported
from tfdiag_ipython.fixes.cells import EditCells, edit_cells, that_ended_well
from tfdiag_ipython.fixes.memory import collect, cuda_in_use
from tfdiag_ipython.fixes.names import feeding, groups
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Cell, Scene
from tfdiag_ipython.sizes import memory_size

ARGUMENTS = ("TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "DPOConfig", "RewardConfig")
"""Classes whose arguments say how the Trainer trains."""


def training_call(cells: Sequence[Cell]) -> tuple[ast.Call, Cell] | None:
    """The newest call that makes the arguments of the last cell's training, where that cell has exactly one, which gives all by name."""
    if not cells:
        return None
    cells = that_ended_well(cells)
    known = {name: real for cell in cells for name, real in imported(cell.source).items()}
    found = [
        (position, number, node)
        for position, cell in enumerate(cells)
        for number, group in enumerate(groups(cell.source))
        for node in (inner for outer in group for inner in ast.walk(outer))
        if isinstance(node, ast.Call) and known.get(callee(node), callee(node)).rpartition(".")[2] in ARGUMENTS
    ]
    if len(found) > 1:
        picked = feeding([cell.source for cell in cells], None)
        found = [one for one in found if one[1] in picked[one[0]]]
    calls = [node for position, _, node in found if position == found[-1][0]]
    whole = len(calls) == 1 and all(word.arg for word in calls[0].keywords)
    return (calls[0], cells[found[-1][0]]) if whole else None


def callee(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def given_arguments(cells: Sequence[Cell]) -> dict[str, str]:
    """The arguments of that call as source by name, and ``""`` → its cell's label; empty where there is none."""
    found = training_call(cells)
    if found is None:
        return {}
    call, cell = found
    return {"": cell.label, **{str(word.arg): ast.unparse(word.value) for word in call.keywords}}


class Peak:
    """The most memory in use since :meth:`restart`: PyTorch's on CUDA where that is in use, else this process's resident memory."""

    def __init__(self, host: Host) -> None:
        self._cuda = cuda_in_use(host)

    def restart(self) -> int | None:
        """Begin anew; returns the most so far, where it is known."""
        before = self.read()
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
            return before
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        except OSError:
            return None
        return before

    def read(self) -> int | None:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated())
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
        except (OSError, StopIteration, ValueError):
            return None


class LessMemory(EditCells):
    """Lets go of what the failed cell holds before it runs the edited cells, which need that memory, and measures their peak."""

    _before: int | None = None

    def execute(self, progress: Progress) -> str:
        peak = Peak(self.host)
        self.host.release()
        collect(self.host)
        self._before = peak.restart()
        return super().execute(progress)

    def verify(self, progress: Progress) -> Verification:
        verification = super().verify(progress)
        now = Peak(self.host).read()
        if verification.status is not Status.VERIFIED or now is None or self._before is None:
            return verification
        told = f"Measured peak: {memory_size(now)}; until it failed: {memory_size(self._before)}."
        return replace(verification, detail=f"{verification.detail} {told}")

    def undo(self) -> str:
        told = super().undo()
        collect(self.host)
        return told


def set_training(scene: Scene, arguments: Mapping[str, str], note: str) -> LessMemory:
    """Plan to set these arguments (values are Python source) in the call that :func:`training_call` found."""
    found = training_call(scene.cells)
    if found is None:
        raise PlanError("The training's arguments are made in none of the cells that were run: set them by hand.")
    wanted = calls_to(callee(found[0]))
    plan = edit_cells(scene, lambda source: set_arguments(source, wanted, arguments), apart=True)
    return LessMemory(plan.host, plan.edits, plan.reruns, note=note)
