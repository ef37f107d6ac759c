from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.memory import MemoryProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TORCH, TRANSFORMERS, passes
from tfdiag_ipython.rules.mem import _advice
from tfdiag_ipython.rules.mem._messages import read
from tfdiag_ipython.sizes import memory_size

REFUSED = """
import torch

def scores(rows):
    hidden = torch.ones(rows, 2**20)
    return torch.empty(2**46)
"""
# One activation is 4 MiB a row: 64 rows keep five of them at once, 32 rows half of that, and the limit lies between.
TRAINING = """
import resource, tempfile, torch
from transformers import Trainer, TrainingArguments

torch.set_num_threads(1)

class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2**20))

    def forward(self, x, labels=None):
        hidden = torch.sigmoid(torch.tanh(torch.exp(x[:, None] * self.weight)))
        return {"loss": (hidden.mean(1) - labels).square().mean()}

data = [{"x": 0.1, "labels": 0.5} for _ in range(64)]
folder = tempfile.mkdtemp()
warm = TrainingArguments(
    output_dir=folder, max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True
)
Trainer(Wide(), warm, train_dataset=data[:2]).train()
"""
LIMIT = """
import libcst

libcst.parse_module("")  # the edit needs it: its native library must be mapped before the limit
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1_000 * 2**20, resource.RLIM_INFINITY))
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
    `per_device_train_batch_size` and doubles `gradient_accumulation_steps`. `free-failed-cell` (safe) clears the failed cell's frames.

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
        r"|unable to mmap (?P<mapped>\d+) bytes from file[^\n]*Cannot allocate memory"
        r"|(?P<paging>WinError 1455|os error 1455|paging file is too small)"
        r"|(?P<bare>\A\s*\Z)"
        r"|Unable to allocate (?P<array>[\d.]+ [KMGTPE]iB) for an array with shape"
    )
    needs = (MemoryProbe,)
    fixes = (Offer("halve-batch", Applicability.UNSAFE), Offer("free-failed-cell", Applicability.SAFE))
    CASES = (
        Match(
            text="RuntimeError: [enforce fail at CPUAllocator.cpp:68] . DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 90177536 bytes. Error code 12 (Cannot allocate memory)",
            certainty=Certainty.LIKELY,
            title=r"86 MiB",
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
            (
                TRAINING,
                LIMIT,
                "arguments = TrainingArguments(\n    output_dir=folder, max_steps=1, report_to=[], use_cpu=True,\n"
                "    per_device_train_batch_size=64,  # all at once\n    save_strategy='no', disable_tqdm=True,\n)",
                "Trainer(Wide(), arguments, train_dataset=data).train()",
            ),
            needs=("torch", "transformers", "accelerate"),
            fixes=(Try("halve-batch"), Try("free-failed-cell")),
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
        held = _advice.holders(seen)
        more = (
            f"{hit['array'] or memory_size(tried)} more were needed"
            if hit["array"] or tried
            else "the system refused more"
        )
        title, why = f"The computer's memory (RAM) is full: {more}", held
        if hit["paging"]:
            title += " (on Windows: RAM and paging file together)"
        certainty, oversized = Certainty.LIKELY, False
        if limit is not None:
            title = f"{title}, and this process may use {memory_size(limit)} in all"
        elif available is not None and tried and tried > available:
            certainty, oversized = Certainty.CONFIRMED, True
            title = f"One tensor of {memory_size(tried)} was asked for: more than the host can give"
            why = f"{memory_size(available)} are available. Look at the shape first: a dimension is wrong or too long. {held}".strip()
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
            fixes=_advice.fixes(self, seen, batch=not oversized),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return _advice.plan(diagnosis, fix, scene)


def _in_torch(hit: Hit) -> bool:
    """Python's own MemoryError says nothing: the line that asked tells whose it is."""
    return bool(hit.raised.frames) and bool(TORCH.search(hit.raised.frames[-1].file))


def _tried(hit: Hit) -> int:
    """Bytes that the message says were asked for; 0 where it does not say."""
    return int(hit["bytes"] or hit["mapped"] or 0) or int(hit["gigabytes"] or 0) * 2**30
