"""Which of the causes of a refused allocation it was: told apart by the message's numbers, the traceback's frames and the ledger.

Sources: `torch/nn/modules/module.py` (`_apply` moves a module's weights), transformers' `modeling_utils.py` and accelerate's
`utils/modeling.py` (the functions that load them). What separates the causes was tried on messages and on a CPU, not on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rules.mem._messages import Shortage

OVERSIZED, FRAGMENTED, OCCUPIED, WEIGHTS, OPTIMIZER, LEAKED, HELD, BATCH, UNKNOWN = (
    "oversized",
    "fragmented",
    "occupied",
    "weights",
    "optimizer",
    "leaked",
    "held",
    "batch",
    "unknown",
)
LOADING = frozenset(
    (
        "from_pretrained",
        "_load_pretrained_model",
        "_load_state_dict_into_meta_model",
        "caching_allocator_warmup",
        "set_module_tensor_to_device",
        "dispatch_model",
        "convert_and_load_state_dict_in_model",
    )
)
"""Functions of transformers and accelerate that put weights onto a device."""
MOVING = frozenset(("_apply", "convert", "cuda", "to"))
"""Methods of `torch.nn.Module` that do."""
INTERPRETER = 400 * 2**20
"""Resident bytes of a Python in which torch and transformers are loaded, and nothing else: rounded up from what torch 2.13 takes on Linux (340 to 370 MiB)."""
MOST = 0.5
"""Part of the allocated bytes from which on a holder is the cause."""


@dataclass(frozen=True)
class Cause:
    """``kind`` is one of the names above. ``allocated``: bytes on the device that PyTorch has given out. ``step``: those that the step
    itself needs (saved for backward, temporaries, what the frames hold). ``parameters``: the weights'. ``largest``: the name that the
    cause is about. ``deletable``: variables, none of them a weight, that would make a difference. ``times``: how often the device would
    be filled by what was asked for at once; 0 where that is not known. ``graphs``: what of ``largest`` autograd graphs keep."""

    kind: str
    allocated: int = 0
    step: int = 0
    parameters: int = 0
    cached: int = 0
    largest: tuple[str, int] = ("", 0)
    deletable: tuple[tuple[str, int], ...] = ()
    times: float = 0
    graphs: int = 0


def cause_of(failure: Failure, numbers: Shortage, seen: Evidence, place: str) -> Cause:
    """The cause, from values alone; without a ledger (stored text) from the message and the traceback."""
    ledger: Mapping[str, int] = (seen.get("ledgers") or {}).get(place, {})
    names: Mapping[str, tuple[tuple[str, int], ...]] = (seen.get("names") or {}).get(place, {})
    held = {row: ledger.get(row, 0) for row in ("variables", "outputs", "frames", "other", "unnamed", "parameters")}
    allocated = sum(held.values()) + sum(ledger.get(row, 0) for row in ("gradients", "optimizer", "graphs"))
    graphs = dict(names.get("graphs", ()))
    kept = _sums([*names.get("variables", ()), *names.get("outputs", ()), *_of_frames(graphs, False)])
    in_frames = _sums([*names.get("frames", ()), *_of_frames(graphs, True)])
    held["variables"] += sum(size for _, size in _of_frames(graphs, False))
    held["frames"] += sum(size for _, size in _of_frames(graphs, True))
    # what the failing cell reads is needed there, unless it only drags its graphs along
    blamed = [pair for pair in kept if pair[0] not in seen.get("read", ()) or graphs.get(pair[0], 0) * 2 > pair[1]]
    kept = [pair for pair in kept if pair[0] not in seen.get("read", ())]
    least = max((numbers.tried or ledger.get("total", 0) // 5) // 4, 2**20)
    step = held["other"] + held["unnamed"] + ledger.get("frames", 0)
    if place == "cpu":
        allocated, step = max(allocated - INTERPRETER, 0), max(step - INTERPRETER, 0)
    cause = Cause(
        _kind(failure, numbers, held, allocated),
        allocated,
        step,
        held["parameters"],
        numbers.cached or 0,
        deletable=tuple(pair for pair in kept if pair[1] >= least),
        times=(numbers.tried or 0) / numbers.room if numbers.room else 0,
    )
    named = {LEAKED: blamed, HELD: in_frames, WEIGHTS: names.get("parameters", ())}.get(cause.kind, ())
    largest = named[0] if named else ("", 0)
    deletable = cause.deletable if cause.kind != OVERSIZED else ()
    return replace(cause, largest=largest, graphs=graphs.get(largest[0], 0), deletable=deletable)


def _of_frames(graphs: Mapping[str, int], frames: bool) -> list[tuple[str, int]]:
    """What graphs keep, by the names of frames' locals (``function: name``) or of variables."""
    return [(name, size) for name, size in graphs.items() if (": " in name) is frames]


def _sums(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    sums: dict[str, int] = {}
    for name, size in pairs:
        sums[name] = sums.get(name, 0) + size
    return sorted(sums.items(), key=lambda pair: -pair[1])


def _kind(failure: Failure, numbers: Shortage, held: Mapping[str, int], allocated: int) -> str:
    if numbers.kind != "plain":
        return numbers.kind
    if allocated and held["variables"] + held["outputs"] >= MOST * allocated:
        return LEAKED
    if moves_weights(failure):
        return WEIGHTS
    if any("/torch/optim/" in frame.file.replace("\\", "/") for frame in failure.frames):
        return OPTIMIZER
    if allocated and held["frames"] >= MOST * allocated:
        return HELD
    return BATCH if runs_a_model(failure) else UNKNOWN


def moves_weights(failure: Failure) -> bool:
    """Whether the allocation was asked for while weights were loaded or moved to the device."""
    frames = [frame for raised in failure.chain for frame in raised.frames]
    return any(
        frame.function in LOADING
        or (frame.function in MOVING and frame.file.replace("\\", "/").endswith("torch/nn/modules/module.py"))
        for frame in frames
    )


def runs_a_model(failure: Failure) -> bool:
    """Whether it was asked for in a model's forward or backward pass."""
    frames = [frame for raised in failure.chain for frame in raised.frames]
    return any(
        frame.function in ("forward", "_call_impl", "training_step", "generate", "_engine_run_backward")
        or (frame.function == "backward" and "torch" in frame.file)
        for frame in frames
    )
