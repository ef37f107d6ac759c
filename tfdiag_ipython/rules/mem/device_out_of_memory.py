from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.memory import MemoryProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.mem import _advice
from tfdiag_ipython.rules.mem._messages import Shortage, read
from tfdiag_ipython.sizes import memory_size

RAISES = """
import torch

def step(rows):
    hidden = torch.ones(rows, 2**20, device="cuda")
    return torch.empty(2 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device="cuda")
"""

# 64 rows ask for more than the device has, 32 rows for four fifths of it.
TRAINING = """
import tempfile, torch
from transformers import Trainer, TrainingArguments

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        row = torch.cuda.mem_get_info()[1] // 40
        scratch = torch.empty(len(x) * row, dtype=torch.uint8, device=x.device)
        return {"loss": (x * self.weight - labels).square().mean()}

data = [{"x": 0.1, "labels": 0.5} for _ in range(64)]
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(), max_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
    per_device_train_batch_size=64, gradient_accumulation_steps=1,  # one step in one go
)
"""


class DeviceOutOfMemory(Rule):
    """The accelerator has no room for one more allocation.

    *What it means*
    PyTorch asked the device for a block, freed its own cache, asked again, and was refused.

    *Why it happens*
    The batch or the sequences are too large for the model; variables of earlier cells (or of a failed cell) still hold tensors;
    another process uses the device; free memory is in pieces that are too small; or a shape is wrong and the block is absurd.

    *How tfdiag confirms it*
    The message says what was asked for, what is free and who has the rest. Asked for more than the device has: a shape or the model.
    Reserved but unused at least as large as asked for: fragmentation. Neither free nor this process's: another process. A look at
    the program adds the variables that hold most.

    *Fixes and their safety*
    `halve-batch` (unsafe: the loss agrees up to rounding, random numbers and batch statistics do not) halves
    `per_device_train_batch_size` and doubles `gradient_accumulation_steps`. `free-failed-cell` (safe) clears the failed cell's frames.

    *Example*
    `CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 14.75 GiB of which 235.06 MiB is free.`

    *References*
    PyTorch: CUDA semantics, memory management; `c10/cuda/CUDACachingAllocator.cpp`.
    """

    code = "MEM001"
    name = "device-out-of-memory"
    raised = (
        "torch.OutOfMemoryError",
        "torch.cuda.OutOfMemoryError",
        "builtins.RuntimeError",
        "torch.AcceleratorError",
    )
    message = re.compile(
        r"(?P<backend>CUDA|HIP|XPU|NPU|MPS backend|CUDA error|HIP error|CUDA driver error):? ?out of memory(?!.*(?:xgboost|cupy|jaxlib|tensorflow))"
        r"|Allocation on device \S* ?would exceed allowed memory"
        r"|cuda runtime error \(2\) ?: out of memory|THCudaCheck FAIL [^\n]*error=2 : out of memory"
        r"|NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED",  # reading the memory's state for this very message fails there
        re.IGNORECASE,
    )
    needs = (MemoryProbe,)
    fixes = (Offer("halve-batch", Applicability.UNSAFE), Offer("free-failed-cell", Applicability.SAFE))
    links = (Link("Memory management", "https://pytorch.org/docs/stable/notes/cuda.html#memory-management"),)
    CASES = (
        Match(
            text="RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 7.79 GiB total capacity; 6.20 GiB already "
            "allocated; 11.50 MiB free; 6.40 GiB reserved in total by PyTorch)",
            certainty=Certainty.LIKELY,
            title="GPU 0 .*20 MiB.*11.5 MiB of 7.79 GiB",
        ),
        Match(
            text="RuntimeError: CUDA out of memory. Tried to allocate 60.00 MiB (GPU 1; 10.91 GiB total capacity; 9.00 GiB already "
            "allocated; 17.56 MiB free; 776.30 MiB cached)",
            title="GPU 1 .*60 MiB",
        ),
        Match(
            text="torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacty of 23.65 GiB "
            "of which 1.06 GiB is free. Process 77 has 4.00 GiB memory in use. Including non-PyTorch memory, this process has 18.59 "
            "GiB memory in use. Of the allocated memory 17.00 GiB is allocated by PyTorch, and 600.00 MiB is reserved by PyTorch but "
            "unallocated.",
            title="other processes hold 4 GiB",
        ),
        Match(
            text="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.65 GiB of "
            "which 1.06 GiB is free. Including non-PyTorch memory, this process has 22.59 GiB memory in use. 20.00 GiB allowed; Of the "
            "allocated memory 15.20 GiB is allocated by PyTorch, with 24.00 MiB allocated in private pools (e.g., CUDA Graphs), and "
            "6.90 GiB is reserved by PyTorch but unallocated.",
            title="in pieces.*6.9 GiB",
        ),
        Match(
            text="torch.OutOfMemoryError: HIP out of memory. Tried to allocate 96.00 GiB. GPU 0 has a total capacity of 15.98 GiB of "
            "which 8.00 GiB is free. Of the allocated memory 6.00 GiB is allocated by PyTorch, and 9.00 MiB is reserved by PyTorch.",
            title="96 GiB.*all of GPU 0 is 15.98 GiB",
        ),
        Match(
            text="RuntimeError: MPS backend out of memory (MPS allocated: 17.20 GB, other allocations: 384.00 KB, max allowed: 18.13 "
            "GB). Tried to allocate 1.20 GB on private pool.",
            title="MPS .*1.2 GiB.*17.2 GiB of 18.13 GiB",
        ),
        Match(
            text="torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU ", title="20 MiB"
        ),
        Match(text="RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        Match(text="RuntimeError: cuda runtime error (2) : out of memory at /pytorch/aten/src/THC/THCGeneral.cpp:50"),
        Match(
            text='RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":838, please report',
            title="no memory left",
        ),
        Match(
            text="torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)",
            title="no memory left",
        ),
        NoMatch(text="RuntimeError: CuDNN: Check failed: error == cudaSuccess (2 vs. 0) out of memory"),
        NoMatch(
            text="tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape[8]"
        ),
        NoMatch(
            text="jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes."
        ),
        Reproduce(
            (RAISES, "step(8)"),
            needs=("torch",),
            title="hidden",
            fixes=(Try("free-failed-cell"),),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (TRAINING, "Trainer(Small(), arguments, train_dataset=data).train()"),
            needs=("torch", "transformers", "accelerate"),
            title="GPU 0",
            fixes=(Try("halve-batch"),),
            isolated=True,
            gpu=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        numbers, seen = read(hit.raised.message), evidence[MemoryProbe.name]
        held = _advice.holders(seen)
        title, why = _told(numbers)
        if held and len(title) + len(held) < 180:
            title = f"{title}. {held[:-1]}"
        can_shrink = numbers.kind in {"plain", "fragmented"}
        return self.found(
            title,
            Certainty.LIKELY,
            what=f"An allocation of {memory_size(numbers.tried)} was refused."
            if numbers.tried
            else "An allocation was refused.",
            why=f"{why} {held}".strip(),
            evidence=seen.seen,
            fixes=_advice.fixes(self, seen, batch=can_shrink),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return _advice.plan(diagnosis, fix, scene)


def _told(numbers: Shortage) -> tuple[str, str]:
    """The answer that the numbers give, and what to do about it."""
    place = numbers.device or numbers.backend or "The device"
    tried, kind = memory_size(numbers.tried), numbers.kind
    smaller = "A smaller batch, shorter sequences, gradient checkpointing or a lower precision need less."
    if numbers.tried is None:
        return (
            "The GPU has no memory left (CUDA does not say how much was asked for)",
            f"See who uses it: nvidia-smi. {smaller}",
        )
    if kind == "oversized":
        return (
            f"One allocation of {tried} was asked for, and all of {place} is {memory_size(numbers.total)}",
            "No cleaning up helps: a shape is wrong (a dimension too many, an attention matrix of a very long sequence), or the "
            "model does not fit.",
        )
    if kind == "fragmented":
        return (
            f"{place}'s free memory is in pieces: {tried} more were needed, {memory_size(numbers.cached)} are reserved by PyTorch but unused",
            "Sizes that change from batch to batch do this. Set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True (PYTORCH_ALLOC_CONF "
            "since 2.9) before torch is imported and restart the kernel.",
        )
    room = f"{memory_size(numbers.free)} of {memory_size(numbers.total)} are free"
    if numbers.free is None and numbers.limit is not None:
        room = f"PyTorch has {memory_size(numbers.allocated)} of {memory_size(numbers.limit)} that it may use"
    elif numbers.free is None or numbers.total is None:
        room = "the message does not say how much is free"
    title = f"{place} is full: {tried} more were needed, {room}"
    if kind == "occupied":
        told = memory_size(numbers.foreign)
        return (
            f"{title}; other processes hold {told}",
            "End them (`nvidia-smi` lists them; another notebook's kernel is the usual one), or use another device.",
        )
    return title, smaller
