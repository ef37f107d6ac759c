"""What both rules about a refused allocation say and offer: who holds the memory, and the fixes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Diagnosis, Fix
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.batch_size import halve_batch
from tfdiag_ipython.fixes.memory import FreeMemory
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.sizes import memory_size

if TYPE_CHECKING:
    from tfdiag_ipython.rule import Rule

WORTH_FREEING = 2**20
"""Bytes below which freeing the failed cell's frames is not offered."""


def holders(seen: Evidence) -> str:
    """A sentence on the variables that hold most, or nothing."""
    held = sorted([*seen.get("variables", ()), *seen.get("frames", ())], key=lambda pair: -pair[1])[:3]
    if not held or held[0][1] < WORTH_FREEING:
        return ""
    return "Most is held by " + ", ".join(f"`{name}` ({memory_size(number)})" for name, number in held) + "."


def fixes(rule: Rule, seen: Evidence, *, batch: bool) -> tuple[Fix, ...]:
    """``batch``: whether a smaller batch can help, as far as the numbers say."""
    offered: list[Fix] = []
    found: Mapping[str, object] = seen.get("batch") or {}
    if batch and found and seen.get("trains"):
        small, steps = int(str(found["size"])) // 2, int(str(found["steps"])) * 2
        offered.append(
            rule.offer(
                "halve-batch",
                f"per_device_train_batch_size={small}, gradient_accumulation_steps={steps}",
                f"Edits {found['cell']} (now {found['size']} and {found['steps']}). The effective batch stays the same; batch "
                "normalization, dropout's random numbers and the time of a step do not.",
            )
        )
    bytes_held = int(seen.get("frame_bytes", 0))
    if bytes_held >= WORTH_FREEING:
        offered.append(
            rule.offer(
                "free-failed-cell",
                f"Free {memory_size(bytes_held)} that the failed cell still holds",
                "Clears the frames of its traceback: %debug shows no variables any more. It cannot be undone.",
            )
        )
    return tuple(offered)


def plan(diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
    if fix.id == "halve-batch":
        return halve_batch(scene)
    if scene.host is None:
        raise PlanError("The program is not at hand: nothing can be freed from here.")
    return FreeMemory(scene.host)
