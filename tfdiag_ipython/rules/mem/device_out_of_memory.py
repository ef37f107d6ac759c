from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.memory import MemoryProbe, observations
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.mem import _advice
from tfdiag_ipython.rules.mem._causes import BATCH, HELD, LEAKED, UNKNOWN, cause_of
from tfdiag_ipython.rules.mem._examples import TRAINED
from tfdiag_ipython.rules.mem._gpu_examples import (
    GPU_COLLECTS,
    GPU_DEEP,
    GPU_LEAKS,
    GPU_PIECES,
    GPU_STACK,
    GPU_TRAINING,
    gpu_arguments,
)
from tfdiag_ipython.rules.mem._messages import Shortage, read
from tfdiag_ipython.rules.mem._words import told
from tfdiag_ipython.sizes import memory_size

RAISES = """
import torch

def step(rows):
    hidden = torch.ones(rows, 2**20, device="cuda")
    return torch.empty(2 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device="cuda")
"""

FULL = Failure.from_text(
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 15.00 GiB of which 235.06 MiB "
    "is free."
)


def ledger(**rows: int) -> dict[str, object]:
    """A probe's facts with these rows of the first GPU's ledger."""
    names = {
        "variables": (("outputs", rows.get("variables", 0)),),
        "frames": (("evaluate: outputs", rows.get("frames", 0)),),
    }
    return {"ledgers": {"cuda:0": {**rows, "total": 15 * 2**30}}, "names": {"cuda:0": names}}


class DeviceOutOfMemory(Rule):
    """The accelerator has no room for one more allocation.

    *What it means*
    PyTorch asked the device for a block, freed its own cache, asked again, and was refused.

    *Why it happens*
    The batch or the sequences are too large for the model; variables of earlier cells (or of a failed cell) still hold tensors;
    another process uses the device; free memory is in pieces that are too small; or a shape is wrong and the block is absurd.

    *How tfdiag confirms it*
    The message says what was asked for, what is free and who has the rest. Asked for more than the device has: a shape or the model.
    Reserved but unused at least as large as asked for: fragmentation. Neither free nor this process's: another process. Refused while
    weights were moved: the weights. A look at the program adds the ledger: where variables of earlier cells or the failed cell's own
    frames hold half of what is allocated, they are the cause, and named.

    *Fixes and their safety*
    `halve-batch` (unsafe: the loss agrees up to rounding, random numbers and batch statistics do not) halves
    `per_device_train_batch_size` and doubles `gradient_accumulation_steps`; for a loop of your own it says where. `checkpoint-activations` (safe: the same numbers, a third
    more time) and `half-precision` (unsafe: 16 bits; offered in the kind that the device has) edit the training's arguments, as does
    `smaller-optimizer` (unsafe: training takes another course; in 8 bits where bitsandbytes is installed). `expandable-segments` (safe) writes the allocator's setting for the
    next start. `detach-collected` (unsafe: no gradient can flow back) keeps a list's tensors without their graphs. `free-failed-cell` (safe) clears the failed cell's frames; `delete-variable` (unsafe) deletes one that would make a
    difference. Each says what it should save, and afterwards what was measured. `find-largest-batch` names the probe that predicts and tries.

    *Example*
    `CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 14.75 GiB of which 235.06 MiB is free.`

    *References*
    PyTorch: CUDA semantics, memory management; `c10/cuda/CUDACachingAllocator.cpp`. Activations: Korthikanti et al. 2022.
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
        r"(?P<backend>CUDA|HIP|XPU|NPU|MPS backend|CUDA error|HIP error|CUDA driver error):? ?out of memory(?!.{0,600}(?:xgboost|cupy|jaxlib|tensorflow))"
        r"|Allocation on device \S* ?would exceed allowed memory"
        r"|cuda runtime error \(2\) ?: out of memory|THCudaCheck FAIL [^\n]{0,300}?error=2 : out of memory"
        r"|NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED",  # reading the memory's state for this very message fails there
        re.IGNORECASE,
    )
    needs = (MemoryProbe,)
    fixes = (
        *_advice.OFFERS,
        Offer("half-precision", Applicability.UNSAFE),
        Offer("expandable-segments", Applicability.SAFE),
    )
    links = (Link("Memory management", "https://pytorch.org/docs/stable/notes/cuda.html#memory-management"),)
    CASES = (
        Match(
            text="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 14.75 GiB of "
            "which 235.06 MiB is free.",
            evidence={"memory": TRAINED},
            fixes=("halve-batch", "find-largest-batch"),
        ),
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
            text="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 12.00 MiB. GPU 0 has a total capacity of 139.80 GiB of "
            "which 135.67 GiB is free. Process 558 has 1.47 GiB memory in use. Including non-PyTorch memory, this process has 2.66 GiB "
            "memory in use. 2.00 GiB allowed; Of the allocated memory 1.91 GiB is allocated by PyTorch, and 90.47 MiB is reserved by "
            "PyTorch but unallocated.",
            title=r"share of GPU 0 \(2 GiB of 139.8 GiB\) is full: 12 MiB more were needed$",
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
        Match(
            failure=FULL,
            evidence={MemoryProbe.name: ledger(variables=12 * 2**30, other=2**30, outside=2**30) | {"read": ("x",)}},
            certainty=Certainty.CONFIRMED,
            title="`outputs` holds 12 GiB",
            fixes=("delete-variable",),
        ),
        Match(
            failure=FULL,
            evidence={MemoryProbe.name: ledger(parameters=2**30, frames=10 * 2**30, outside=2**30)},
            certainty=Certainty.CONFIRMED,
            title="`evaluate: outputs` holds 10 GiB",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/modeling_utils.py", line 9, in from_pretrained\n    load()\n'
            '  File "/x/torch/nn/modules/module.py", line 1355, in _apply\n    fn()\ntorch.OutOfMemoryError: CUDA out of memory. Tried '
            "to allocate 86.00 MiB. GPU 0 has a total capacity of 15.98 GiB of which 84.00 MiB is free.",
            title="the weights alone do not fit",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/torch/optim/adamw.py", line 9, in step\n    f()\ntorch.OutOfMemoryError: '
            "CUDA out of memory. Tried to allocate 86.00 MiB. GPU 0 has a total capacity of 15.98 GiB of which 84.00 MiB is free.",
            title="the optimizer's state does not fit",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/torch/nn/modules/linear.py", line 9, in forward\n    f()\n'
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 86.00 MiB. GPU 0 has a total capacity of 15.98 GiB of which "
            "84.00 MiB is free.",
            title="the batch or its sequences are too large",
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
            title="One allocation of",
            fixes=(Try("free-failed-cell"),),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (GPU_TRAINING, gpu_arguments(64), "Trainer(Small(), arguments, train_dataset=data).train()"),
            needs=("torch", "transformers", "accelerate"),
            title="One allocation of .* all of GPU 0 is",
            fixes=(Try("halve-batch"),),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (GPU_DEEP, gpu_arguments(16), "Trainer(model(24), arguments, train_dataset=data).train()"),
            needs=("torch", "transformers", "accelerate"),
            title="too large",
            fixes=(Try("checkpoint-activations"), Try("half-precision")),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (GPU_STACK, gpu_arguments(1), "Trainer(Stack(4096), arguments, train_dataset=data).train()"),
            needs=("torch", "transformers", "accelerate"),
            fixes=(Try("smaller-optimizer"),),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (GPU_LEAKS, "more = torch.ones(2**28, device='cuda')"),
            needs=("torch",),
            title="`results` holds 1.25 GiB",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("delete-variable"),),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (
                GPU_COLLECTS,
                "scores = []\nfor step in range(100):\n    scores.append(model(torch.ones(2**12, 2**10, device='cuda')))",
            ),
            needs=("torch",),
            title="`scores` holds .* GiB, most of it for a backward pass",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("detach-collected"),),
            isolated=True,
            gpu=True,
        ),
        Reproduce(
            (GPU_PIECES, "more = torch.empty(300 * 2**20, dtype=torch.uint8, device='cuda')"),
            needs=("torch",),
            title="in pieces",
            fixes=(Try("expandable-segments", Status.NOT_CHECKED),),
            isolated=True,
            gpu=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        numbers, seen = read(hit.raised.message), evidence[MemoryProbe.name]
        place = _place(numbers, seen)
        cause = cause_of(failure, numbers, seen, place)
        title, why = told(numbers, cause, seen)
        held = _advice.holders(seen)
        if held and cause.kind in (BATCH, UNKNOWN) and len(title) + len(held) < 180:
            title = f"{title}. {held[:-1]}"
        shown = [one for one in seen.seen if place and place != "cpu"] and observations(seen, place)
        return self.found(
            title,
            Certainty.CONFIRMED if cause.kind in (LEAKED, HELD) else Certainty.LIKELY,
            what=f"An allocation of {memory_size(numbers.tried)} was refused."
            if numbers.tried
            else "An allocation was refused.",
            why=f"{why} {held}".strip(),
            evidence=shown or seen.seen,
            fixes=_advice.fixes(self, seen, cause),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return _advice.plan(diagnosis, fix, scene)


def _place(numbers: Shortage, seen: Evidence) -> str:
    """The ledger's name of the device that the message is about: the one it names, or the only one there is."""
    places = [place for place in seen.get("ledgers") or {} if place != "cpu"]
    named = f"cuda:{numbers.device[4:]}" if numbers.device.startswith("GPU ") else ""
    return named if named in places else places[0] if len(places) == 1 else ""
