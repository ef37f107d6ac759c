"""The answer to a refused allocation on a device, in one line, and what to do about it."""

from __future__ import annotations

from tfdiag_ipython.fixes.allocator import SETTING, allocator_variable
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rules.mem._causes import (
    BATCH,
    FRAGMENTED,
    HELD,
    LEAKED,
    OCCUPIED,
    OPTIMIZER,
    OVERSIZED,
    WEIGHTS,
    Cause,
)
from tfdiag_ipython.rules.mem._messages import Shortage
from tfdiag_ipython.sizes import memory_size

SMALLER = (
    "A smaller batch, shorter sequences, gradient checkpointing or a lower precision need less; where no backward pass follows, "
    "`torch.no_grad()` does."
)

GRAPHS = (
    "Each tensor in it still has the graph of its forward pass, and with it all that a backward pass would need: evaluate under "
    "`torch.no_grad()`, or keep `.detach().cpu()` or `.item()` only."
)


def told(numbers: Shortage, cause: Cause, seen: Evidence) -> tuple[str, str]:
    """The title that the numbers and the cause give, and the reason with its remedy."""
    place = numbers.device or numbers.backend or "The device"
    tried = memory_size(numbers.tried)
    if numbers.tried is None:
        title = "The GPU has no memory left (CUDA does not say how much was asked for)"
        return f"{title}{_named(cause)}", f"See who uses it: nvidia-smi. {SMALLER}"
    if cause.kind == OVERSIZED:
        whole = f"this process may use {memory_size(numbers.room)} of {place}"
        if numbers.room == numbers.total:
            whole = f"all of {place} is {memory_size(numbers.room)}"
        return (
            f"One allocation of {tried} was asked for, and {whole}",
            "No cleaning up helps: a shape is wrong (a dimension too many, an attention matrix of a very long sequence), the batch is "
            "far too large, or the model does not fit.",
        )
    if cause.kind == FRAGMENTED:
        variable = allocator_variable(hip=numbers.backend == "HIP")
        return (
            f"{place}'s free memory is in pieces: {tried} more were needed, {memory_size(numbers.cached)} are reserved by PyTorch but unused",
            f"Sizes that change from batch to batch do this. Set {variable}={SETTING} before torch is imported and restart the kernel.",
        )
    title = f"{place} is full: {tried} more were needed, {_room(numbers)}"
    if numbers.shared_out:
        share = f"{memory_size(numbers.limit)} of {memory_size(numbers.total)}"
        title = f"This process's share of {place} ({share}) is full: {tried} more were needed"
    if cause.kind == OCCUPIED:
        return (
            f"{title}; other processes{'' if numbers.own else ', and CUDA itself,'} hold {memory_size(numbers.foreign)}",
            "End them (`nvidia-smi` lists them; another notebook's kernel is the usual one), or use another device.",
        )
    if cause.kind == WEIGHTS:
        return (
            f"{title}: the weights alone do not fit",
            "It was refused while weights were loaded or moved: a smaller batch does not help. Load them in half precision "
            '(dtype="bfloat16"), quantized, or spread with device_map="auto"; or free what else is on the device first.',
        )
    if cause.kind == OPTIMIZER:
        return (
            f"{title}: the optimizer's state does not fit",
            "It was refused inside the optimizer's step, when the activations were gone: a smaller batch does not help. AdamW keeps two "
            "numbers a weight; Adafactor and 8-bit optimizers keep less.",
        )
    if of_graphs(cause):
        return f"{title}{_named(cause)}, most of it for a backward pass", GRAPHS
    if cause.kind == LEAKED:
        return (
            f"{title}{_named(cause)}",
            "Variables of earlier cells hold most of it: delete them, or keep results on the CPU (`.cpu()`).",
        )
    if cause.kind == HELD:
        return (
            f"{title}{_named(cause)}",
            "The failed cell's frames hold most of it, and go on holding it until they are cleared. A list that collects outputs or "
            "losses with their graphs grows like this: keep `.detach().cpu()` or `.item()`.",
        )
    if cause.kind == BATCH:
        batch = seen.get("batch") or {}
        size = f" (per_device_train_batch_size={batch['size']})" if batch and seen.get("trains") else ""
        step = f", which needs {memory_size(cause.step)} so far" if cause.step >= 2**20 else ""
        return (
            f"{title}: the batch{size} or its sequences are too large",
            f"It was refused inside the model's step{step}. {SMALLER}",
        )
    return title, SMALLER


def of_graphs(cause: Cause) -> bool:
    """Whether most of what the blamed name holds is what its graphs keep."""
    return cause.kind in (LEAKED, HELD) and cause.graphs * 2 > cause.largest[1]


def _named(cause: Cause) -> str:
    name, size = cause.largest
    return f"; `{name}` holds {memory_size(size)}" if name else ""


def _room(numbers: Shortage) -> str:
    if numbers.free is None and numbers.limit is not None:
        return f"PyTorch has {memory_size(numbers.allocated)} of {memory_size(numbers.limit)} that it may use"
    if numbers.free is None or numbers.total is None:
        return "the message does not say how much is free"
    return f"{memory_size(numbers.free)} of {memory_size(numbers.total)} are free"
