"""What the rules about a refused allocation say and offer: who holds the memory, and the fixes with what they would save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.diagnosis import Applicability, Diagnosis, Fix
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.allocator import SETTING, expandable_segments
from tfdiag_ipython.fixes.batch_size import halve_batch
from tfdiag_ipython.fixes.detach import detach
from tfdiag_ipython.fixes.less_memory import set_training
from tfdiag_ipython.fixes.memory import FreeMemory
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.rule import Offer
from tfdiag_ipython.rules.mem._causes import BATCH, FRAGMENTED, OCCUPIED, OPTIMIZER, OVERSIZED, WEIGHTS, Cause
from tfdiag_ipython.sizes import memory_size

if TYPE_CHECKING:
    from tfdiag_ipython.rule import Rule

WORTH_FREEING = 2**20
"""Bytes below which freeing the failed cell's frames, or a variable, is not offered."""
VARIABLES = 2
"""Variables that are offered for deletion, each with its own button."""
OFFERS = (
    Offer("halve-batch", Applicability.UNSAFE),
    Offer("checkpoint-activations", Applicability.SAFE),
    Offer("smaller-optimizer", Applicability.UNSAFE),
    Offer("detach-collected", Applicability.UNSAFE),
    Offer("free-failed-cell", Applicability.SAFE),
    Offer("delete-variable", Applicability.UNSAFE),
    Offer("find-largest-batch", Applicability.DISPLAY_ONLY),
)
"""The fixes that help on every device."""
CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")
RECOMPUTED = 0.75
"""Part of what is saved for backward that is not with checkpoints: Korthikanti et al. 2022 count 34 bytes a value and 2 with them, and
one layer at a time is whole."""
HALVED = 0.4
"""Part of it that half precision spares as a rule: matrix products' inputs halve, normalizations and losses stay in 32 bits."""


def holders(seen: Evidence) -> str:
    """A sentence on the variables that hold most, or nothing."""
    held = [*seen.get("variables", ()), *seen.get("outputs", ()), *seen.get("frames", ())]
    held = sorted(held, key=lambda pair: -pair[1])[:3]
    if not held or held[0][1] < WORTH_FREEING:
        return ""
    return "Most is held by " + ", ".join(f"`{name}` ({memory_size(number)})" for name, number in held) + "."


def fixes(rule: Rule, seen: Evidence, cause: Cause) -> tuple[Fix, ...]:
    """The fixes that this cause can be cured with, each with the bytes that it would save where they are known."""
    offered: list[Fix] = []
    if seen.get("trains") and cause.kind != OCCUPIED:
        offered += _training(rule, seen, cause)
    elif cause.kind == BATCH and seen.get("loader"):
        offered.append(_loader(rule, seen["loader"]))
    if cause.kind == FRAGMENTED:
        offered.append(
            rule.offer(
                "expandable-segments",
                f"Set {SETTING} for the next start",
                f"Up to {memory_size(cause.cached)} that PyTorch reserved and cannot use would be usable. It is read once: the kernel "
                "must be started again.",
            )
        )
    name, _ = cause.largest
    cell, lists = (seen.get("collected") or {}).get(name, ("", False))
    if cell and cause.graphs >= WORTH_FREEING:
        own = name.rpartition(": ")[2]
        offered.append(
            rule.offer(
                "detach-collected",
                f"Keep `{own}` without graphs",
                f"{_saves(cause.graphs, 1.0)}Edits {cell}: adds `.detach()` to what `{own}` collects. The numbers are the same; no "
                "gradient can flow back through them.",
                name=own,
                lists=lists,
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
    for name, size in cause.deletable[:VARIABLES]:
        offered.append(
            rule.offer(
                "delete-variable",
                f"Delete `{name}` ({memory_size(size)})",
                "Deletes it, every other name of the same object and what the failed cell holds. It cannot be undone.",
                names=[name],
            )
        )
    if cause.kind == BATCH or any(fix.id == "halve-batch" for fix in offered):
        offered.append(
            rule.offer(
                "find-largest-batch",
                "Find the largest batch that fits",
                "`%tfdiag probe fits MODEL BATCH --optimizer OPTIMIZER` predicts it from two small steps and tries it; everything is put back.",
            )
        )
    return tuple(offered)


def _loader(rule: Rule, loader: Mapping[str, Any]) -> Fix:
    """The batch of a training loop of the person's own: where its steps are taken is the person's, so that nothing is edited."""
    return rule.offer(
        "halve-batch",
        "Halve the batch and double the accumulation",
        f"Set `batch_size={loader['size'] // 2}` for the `DataLoader` in {loader['cell']}. Where you train, call `backward()` on half the loss, "
        "and the optimizer's `step()` and `zero_grad()` after every second batch: the same gradients from half as much memory.",
        display=True,
    )


def _training(rule: Rule, seen: Evidence, cause: Cause) -> list[Fix]:
    offered: list[Fix] = []
    declared = {offer.id for offer in rule.fixes}
    batch: Mapping[str, object] = seen.get("batch") or {}
    given: Mapping[str, str] = seen.get("given") or {}
    step = cause.kind not in (WEIGHTS, OPTIMIZER)  # those are the same for any batch
    at_once = cause.kind == OVERSIZED
    if batch and step and (not at_once or cause.times <= 2):
        small, steps = int(str(batch["size"])) // 2, int(str(batch["steps"])) * 2
        offered.append(
            rule.offer(
                "halve-batch",
                f"per_device_train_batch_size={small}, gradient_accumulation_steps={steps}",
                f"{_saves(0 if at_once else cause.step, 0.5)}Edits {batch['cell']} (now {batch['size']} and {batch['steps']}). The effective batch stays "
                "the same; batch normalization, dropout's random numbers and the time of a step do not.",
            )
        )
    if at_once:  # what else saves memory makes no single allocation smaller
        return offered
    checkpoints = str(seen.get("checkpoints") or "")
    if given and checkpoints and step and not _on(given, *CHECKPOINTING):
        offered.append(
            rule.offer(
                "checkpoint-activations",
                f"{checkpoints}=True",
                f"{_saves(cause.step, RECOMPUTED)}Edits {given['']}. Layers are computed again in the backward pass, about a third more "
                "time; the numbers are the same.",
                argument=checkpoints,
            )
        )
    precision = str(seen.get("precision", ""))
    if given and precision and step and "half-precision" in declared and not _on(given, "bf16", "fp16"):
        offered.append(
            rule.offer(
                "half-precision",
                f"{precision}=True",
                f"{_saves(cause.step, HALVED)}Edits {given['']}. Products are computed in 16 bits, which this device does in hardware; "
                "losses differ in the third digit.",
                precision=precision,
            )
        )
    if given and "optim" not in given and cause.parameters:
        eight = bool(seen.get("eight_bit"))
        name, part = ("adamw_bnb_8bit", 0.75) if eight else ("adafactor", 1.0)
        how = (
            "bitsandbytes keeps AdamW's two numbers a weight in 8 bits instead of 32; losses differ slightly."
            if eight
            else "Adafactor keeps rows' and columns' means where AdamW keeps two numbers a weight; training takes another course."
        )
        offered.append(
            rule.offer(
                "smaller-optimizer",
                f'optim="{name}"',
                f"{_saves(2 * cause.parameters, part)}Edits {given['']}. {how}",
                optimizer=name,
            )
        )
    return offered


def _on(given: Mapping[str, str], *names: str) -> bool:
    """Whether one of these arguments is given and may be true."""
    return any(given.get(name, "False") not in ("False", "None") for name in names)


def _saves(size: int, part: float) -> str:
    return f"Predicted to save about {memory_size(int(size * part))}. " if size else ""


def plan(diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
    """Work out one of ``OFFERS`` and of those that only a rule about a device has."""
    if fix.id == "halve-batch":
        return halve_batch(scene)
    if fix.id == "checkpoint-activations":
        return set_training(scene, {str(fix.parameters["argument"]): "True"}, "Each layer is computed twice.")
    if fix.id == "detach-collected":
        return detach(scene, str(fix.parameters["name"]), lists=bool(fix.parameters["lists"]))
    if fix.id == "half-precision":
        return set_training(scene, {str(fix.parameters["precision"]): "True"}, "Products are computed in 16 bits.")
    if fix.id == "smaller-optimizer":
        return set_training(
            scene, {"optim": f'"{fix.parameters["optimizer"]}"'}, "Another optimizer trains from here on."
        )
    if fix.id == "expandable-segments":
        return expandable_segments(scene)
    if scene.host is None:
        raise PlanError("The program is not at hand: nothing can be freed from here.")
    return FreeMemory(scene.host, fix.parameters.get("names", ()))
