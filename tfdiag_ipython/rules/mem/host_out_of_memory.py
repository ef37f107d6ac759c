from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.memory import MemoryProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TORCH, TRANSFORMERS, passes
from tfdiag_ipython.rules.mem import _advice
from tfdiag_ipython.rules.mem._causes import HELD, LEAKED, OPTIMIZER, OVERSIZED, WEIGHTS, Cause, cause_of
from tfdiag_ipython.rules.mem._examples import ARGUMENTS, COLLECTS, DEEP, EVALUATES, STACK, TRAINED, WIDE, limit
from tfdiag_ipython.rules.mem._messages import read
from tfdiag_ipython.rules.mem._words import GRAPHS, of_graphs
from tfdiag_ipython.sizes import memory_size

REFUSED = """
import torch

def scores(rows):
    hidden = torch.ones(rows, 2**20)
    return torch.empty(2**46)
"""
LEAKS = """
import gc, torch

gc.collect()
results = [torch.ones(2**22) for _ in range(20)]
"""


class HostOutOfMemory(Rule):
    """The computer's own memory has no room for one more tensor.

    *What it means*
    PyTorch's CPU allocator asked the operating system for a block and was refused.

    *Why it happens*
    A shape is wrong and the block is absurd; the checkpoint is larger than the memory; variables of earlier cells hold the rest; or a
    limit on this process (a container's, `ulimit -v`) is reached.

    *How tfdiag confirms it*
    It compares the bytes in the message with what the host can still give and with the process's limit, and lists the variables and
    frames that hold most.

    *Fixes and their safety*
    `halve-batch` (unsafe: the loss agrees up to rounding, random numbers and batch statistics do not) halves
    `per_device_train_batch_size` and doubles `gradient_accumulation_steps`; for a loop of your own it says where. `checkpoint-activations` (safe: the same numbers, a third
    more time) sets `gradient_checkpointing`. `smaller-optimizer` (unsafe: training takes another course) sets `optim="adafactor"`.
    `detach-collected` (unsafe: no gradient can flow back) keeps a list's tensors without the graphs of their forward passes.
    `free-failed-cell` (safe) clears the failed cell's frames. `delete-variable` (unsafe) deletes a variable that would make a difference.
    `find-largest-batch` names the probe that predicts and tries.

    *Example*
    `torch.empty(2**46)`: 256 TiB.

    *References*
    PyTorch: `c10/core/impl/alloc_cpu.cpp`.
    """

    code = "MEM002"
    name = "host-out-of-memory"
    raised = (
        "builtins.RuntimeError",
        "builtins.OSError",
        "builtins.MemoryError",
        "numpy._core._exceptions._ArrayMemoryError",
    )
    message = re.compile(
        r"CPUAllocator: (?:can't allocate memory|not enough memory): you tried to allocate (?P<bytes>\d+) bytes"
        r"|Torch: not enough memory: you tried to allocate (?P<gigabytes>\d+)GB"
        r"|unable to mmap (?P<mapped>\d+) bytes from file[^\n]{0,300}Cannot allocate memory"
        r"|(?P<paging>WinError 1455|os error 1455|paging file is too small)"
        r"|(?P<bare>\A\s*\Z)"
        r"|Unable to allocate (?P<array>[\d.]+ [KMGTPE]iB) for an array with shape"
    )
    needs = (MemoryProbe,)
    fixes = _advice.OFFERS
    CASES = (
        Match(
            text="RuntimeError: [enforce fail at CPUAllocator.cpp:68] . DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 90177536 bytes. Error code 12 (Cannot allocate memory)",
            certainty=Certainty.LIKELY,
            title=r"86 MiB",
            evidence={"memory": TRAINED},
            fixes=("halve-batch", "find-largest-batch"),
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/torch/nn/modules/linear.py", line 9, in forward\n    f()\nRuntimeError: '
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 90177536 bytes.",
            title="86 MiB",
            evidence={"memory": {"loader": {"size": 64, "cell": "cell 2"}}},
            fixes=("halve-batch", "find-largest-batch"),
        ),
        Match(
            text="RuntimeError: [enforce fail at ..\\c10\\core\\CPUAllocator.cpp:72] data. DefaultCPUAllocator: not enough memory: you "
            "tried to allocate 16777216 bytes. Buy new RAM!",
            title="16 MiB",
        ),
        NoMatch(
            text="numpy.core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array with shape (32768, 32768)"
        ),
        NoMatch(text="MemoryError"),
        Match(
            text="RuntimeError: $ Torch: not enough memory: you tried to allocate 7GB. Buy new RAM! at THGeneral.cpp:204",
            title="7 GiB",
        ),
        Match(
            text="RuntimeError: unable to mmap 2147483648 bytes from file <./model.safetensors>: Cannot allocate memory (12)",
            title="2 GiB",
        ),
        Match(
            text='OSError: [WinError 1455] The paging file is too small for this operation to complete. Error loading "C:\\x\\torch\\lib\\a.dll"',
            title="paging file",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/trainer.py", line 32, in evaluation_loop\n    preds = concat()\n'
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.5 GiB for an array with shape (9, 9) and data type float32",
            title="7.5 GiB",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/torch/serialization.py", line 1132, in load_tensor\n    read()\nMemoryError',
            title="the system refused more",
        ),
        NoMatch(
            text='Traceback (most recent call last):\n  File "/x/shop/prices.py", line 7, in load\n    rows = rows * 2**40\nMemoryError'
        ),
        NoMatch(text="OSError: [WinError 1455] The paging file is too small for this operation to complete"),
        Reproduce(
            (REFUSED, "out = scores(8)"),
            needs=("torch",),
            title="256 TiB.*host can give",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("free-failed-cell"),),
        ),
        Reproduce(
            (WIDE, limit(1_000), ARGUMENTS.format(batch=64), "Trainer(Wide(), arguments, train_dataset=data).train()"),
            needs=("torch", "transformers", "accelerate"),
            fixes=(Try("halve-batch"), Try("free-failed-cell")),
            isolated=True,
        ),
        Reproduce(
            (
                DEEP,
                limit(1_150),
                ARGUMENTS.format(batch=8),
                "Trainer(model(10), arguments, train_dataset=data).train()",
            ),
            needs=("torch", "transformers", "accelerate"),
            fixes=(Try("checkpoint-activations"),),
            isolated=True,
        ),
        Reproduce(
            (
                STACK,
                limit(750),
                ARGUMENTS.format(batch=1),
                "Trainer(Stack(5120), arguments, train_dataset=data).train()",
            ),
            needs=("torch", "transformers", "accelerate"),
            title="optimizer's state",
            fixes=(Try("smaller-optimizer"),),
            isolated=True,
        ),
        Reproduce(
            (COLLECTS, limit(820), EVALUATES),
            needs=("torch",),
            title="`scores` holds .* MiB, most of it for a backward pass",
            fixes=(Try("detach-collected"),),
            isolated=True,
        ),
        Reproduce(
            (LEAKS, limit(100), "more = torch.ones(2**25 + 2**20)"),
            needs=("torch",),
            title="`results` holds 320 MiB",
            fixes=(Try("delete-variable"),),
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if (hit["paging"] and not passes(failure, TORCH)) or (hit["array"] and not passes(failure, TRANSFORMERS)):
            return None  # another library's allocation
        if not hit.raised.message.strip() and not (hit.raised.is_a("MemoryError") and _in_torch(hit)):
            return None  # another library's allocation
        seen, tried = evidence[MemoryProbe.name], _tried(hit)
        available, limit = seen.get("available"), seen.get("limit")
        cause = cause_of(failure, read(hit.raised.message), seen, "cpu")
        held = _advice.holders(seen)
        more = (
            f"{hit['array'] or memory_size(tried)} more were needed"
            if hit["array"] or tried
            else "the system refused more"
        )
        title, why = f"The computer's memory (RAM) is full: {more}", held
        if hit["paging"]:
            title += " (on Windows: RAM and paging file together)"
        certainty = Certainty.LIKELY
        if limit is not None:
            title = f"{title}, and this process may use {memory_size(limit)} in all"
        elif available is not None and tried and tried > available:
            certainty, cause = Certainty.CONFIRMED, Cause(OVERSIZED)
            title = f"One tensor of {memory_size(tried)} was asked for: more than the host can give"
            why = f"{memory_size(available)} are available. Look at the shape first: a dimension is wrong or too long. {held}".strip()
        if cause.kind in (LEAKED, HELD) and cause.largest[0]:
            title = f"{title}; `{cause.largest[0]}` holds {memory_size(cause.largest[1])}"
        if of_graphs(cause):
            title, why = f"{title}, most of it for a backward pass", f"{GRAPHS} {held}".strip()
        if cause.kind == OPTIMIZER:
            title = f"{title}: the optimizer's state does not fit"
        if cause.kind == WEIGHTS:
            why = f'It was refused while weights were loaded or moved: load them in half precision (dtype="bfloat16"). {held}'.strip()
        if not why:
            why = "A checkpoint larger than the memory, a large batch, or data held by other variables."
        return self.found(
            title,
            certainty,
            what=f"The operating system refused {tried:,} bytes ({read(hit.raised.message).backend or 'CPU'} allocator)."
            if tried
            else "The operating system refused an allocation.",
            why=why,
            evidence=seen.seen,
            fixes=_advice.fixes(self, seen, cause),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return _advice.plan(diagnosis, fix, scene)


def _in_torch(hit: Hit) -> bool:
    """Python's own MemoryError says nothing: the line that asked tells whose it is."""
    return bool(hit.raised.frames) and bool(TORCH.search(hit.raised.frames[-1].file))


def _tried(hit: Hit) -> int:
    """Bytes that the message says were asked for; 0 where it does not say."""
    return int(hit["bytes"] or hit["mapped"] or 0) or int(hit["gigabytes"] or 0) * 2**30
