"""Halve the batch that is in memory at once, and keep the effective batch by accumulating gradients twice as long."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.memory import collect
from tfdiag_ipython.fixes.source import calls_to, python_of, set_arguments
from tfdiag_ipython.probe import Cell, Scene

ARGUMENTS = ("TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "DPOConfig", "RewardConfig")
"""Classes whose `per_device_train_batch_size` (8 where absent) and `gradient_accumulation_steps` (1) make the batch."""
SIZE, STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"


def find_batch(cells: Sequence[Cell]) -> dict[str, Any]:
    """The newest call that sets the batch size with numbers: its class, size, accumulation steps and cell; else empty.

    A size that is a variable, comes from ``**kwargs`` or is already 1 cannot be halved by editing this call.
    """
    for cell in reversed(cells):
        try:
            tree = ast.parse(python_of(cell.source) or "")
        except (SyntaxError, ValueError, RecursionError):
            continue
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) in ARGUMENTS]
        if not calls:
            continue
        given = {word.arg: word.value for word in calls[-1].keywords}
        size, steps = _number(given.get(SIZE), 8), _number(given.get(STEPS), 1)
        doubtful = len(calls) > 1 or None in given or given.get("auto_find_batch_size") is not None
        if doubtful or size is None or steps is None or size < 2 or size % 2:
            return {}
        return {"call": _name(calls[-1]), "size": size, "steps": steps, "cell": cell.label}
    return {}


class HalveBatch(EditCells):
    """Lets go of what the failed cell holds before it runs the edited cells: the smaller batch needs that memory."""

    def execute(self, progress: Progress) -> str:
        self.host.release()
        collect(self.host)
        return super().execute(progress)

    def undo(self) -> str:
        told = super().undo()
        collect(self.host)
        return told


def halve_batch(scene: Scene) -> HalveBatch:
    """Plan the edit of the cell that :func:`find_batch` found; raises ``PlanError`` when it is no longer there."""
    batch = find_batch(scene.cells)
    if not batch:
        raise PlanError(
            "The batch size is set in none of the cells that were run, or not by a number: halve it by hand."
        )
    numbers: dict[str, str | None] = {SIZE: str(batch["size"] // 2), STEPS: str(batch["steps"] * 2)}
    note = f"Gradients of {batch['size'] // 2} × {batch['steps'] * 2} examples make one step, as before."
    plan = edit_cells(scene, lambda source: set_arguments(source, calls_to(batch["call"]), numbers))
    return HalveBatch(plan.host, plan.edits, plan.reruns, note=note)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _number(node: ast.expr | None, default: int) -> int | None:
    if node is None:
        return default
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
