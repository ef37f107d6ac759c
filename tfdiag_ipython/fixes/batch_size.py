"""Halve the batch that is in memory at once, and keep the effective batch by accumulating gradients twice as long."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from typing import Any

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fixes.cells import newest_versions
from tfdiag_ipython.fixes.less_memory import LessMemory, callee, set_training, training_call
from tfdiag_ipython.fixes.source import python_of
from tfdiag_ipython.probe import Cell, Scene

SIZE, STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"
"""The arguments that make the batch: 8 and 1 where absent."""


def find_batch(cells: Sequence[Cell]) -> dict[str, Any]:
    """The newest call that sets the batch size with numbers: its class, size, accumulation steps and cell; else empty.

    A size that is a variable, comes from ``**kwargs`` or is already 1 cannot be halved by editing this call.
    """
    found = training_call(cells)
    if found is None:
        return {}
    call, cell = found
    given = {word.arg: word.value for word in call.keywords}
    size, steps = _number(given.get(SIZE), 8), _number(given.get(STEPS), 1)
    if given.get("auto_find_batch_size") is not None or size is None or steps is None or size < 2 or size % 2:
        return {}
    return {"call": callee(call), "size": size, "steps": steps, "cell": cell.label}


def find_loader(cells: Sequence[Cell], needed: Collection[str]) -> dict[str, Any]:
    """The newest ``DataLoader`` with a batch of a written size that the last cell makes or needs: its size and cell; else empty."""
    for cell in reversed(newest_versions(cells)):
        try:
            tree = ast.parse(python_of(cell.source) or "")
        except (SyntaxError, ValueError, RecursionError):
            continue
        assigned = {node.value: node.targets[0] for node in ast.walk(tree) if isinstance(node, ast.Assign)}
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or ast.unparse(call.func).rpartition(".")[2] != "DataLoader":
                continue
            target = assigned.get(call)
            wanted = cell is cells[-1] or (isinstance(target, ast.Name) and target.id in needed)
            words = {word.arg: word.value for word in call.keywords}
            size = _number(words.get("batch_size", call.args[1] if len(call.args) > 1 else None), 1)
            if wanted and size is not None and size >= 2:
                return {"size": size, "cell": cell.label}
    return {}


def halve_batch(scene: Scene) -> LessMemory:
    """Plan the edit of the cell that :func:`find_batch` found; raises ``PlanError`` when it is no longer there."""
    batch = find_batch(scene.cells)
    if not batch:
        raise PlanError(
            "The batch size is set in none of the cells that were run, or not by a number: halve it by hand."
        )
    numbers = {SIZE: str(batch["size"] // 2), STEPS: str(batch["steps"] * 2)}
    note = f"Gradients of {batch['size'] // 2} × {batch['steps'] * 2} examples make one step, as before."
    return set_training(scene, numbers, note)


def _number(node: ast.expr | None, default: int) -> int | None:
    if node is None:
        return default
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
