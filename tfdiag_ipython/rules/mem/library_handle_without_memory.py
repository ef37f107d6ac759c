from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link, Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.memory import MemoryProbe, observations
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule
from tfdiag_ipython.sizes import memory_size

ASSERTED = r"device-side assert|Assertion `|\w+\.cu:\d+"

FULL, EMPTY = 0.9, 0.5
"""Parts of the device that PyTorch has reserved: above the first it is full, below the second it is not full of this process."""
REFUSED = Failure.from_text("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


class LibraryHandleWithoutMemory(Rule):
    """cuBLAS or cuDNN could not start: usually because the GPU's memory is full.

    *What it means*
    Both libraries need a workspace on the device. PyTorch's allocator had taken everything else before they asked.

    *Why it happens*
    Memory is full (of this or another process); or an earlier kernel failed (an index out of range) and this is only the first call
    after it; or the libraries do not fit the driver.

    *How tfdiag confirms it*
    It cannot from the text alone: the diagnosis stays possible. Where a device-side assertion is in the text it is silent. In a living
    program the ledger decides: a device that PyTorch has reserved nearly whole makes memory likely; one that is mostly unused by this
    process makes a bad index the first thing to look for.

    *Fixes and their safety*
    None is carried out: free memory or make the batch smaller; when that does not help, run one batch on the CPU, which names a bad index.

    *Example*
    `CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)`

    *References*
    cuBLAS: `cublasStatus_t`; PyTorch: `aten/src/ATen/cuda/CUDABlas.cpp`.
    """

    code = "MEM003"
    name = "library-handle-without-memory"
    raised = ("builtins.RuntimeError", "torch.AcceleratorError")
    message = re.compile(
        r"(?P<status>CUBLAS_STATUS_(?:ALLOC_FAILED|NOT_INITIALIZED)|CUDNN_STATUS_(?:NOT_INITIALIZED|ALLOC_FAILED))"
    )
    needs = (MemoryProbe,)
    links = (Link("cuBLAS status codes", "https://docs.nvidia.com/cuda/cublas/#cublasstatus-t"),)
    CASES = (
        Match(
            text="RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            certainty=Certainty.POSSIBLE,
            title="cuBLAS",
        ),
        Match(
            text="RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
            certainty=Certainty.POSSIBLE,
            title="cuDNN .*memory",
        ),
        Match(
            failure=REFUSED,
            evidence={
                MemoryProbe.name: {"ledgers": {"cuda:0": {"other": 79 * 2**30, "outside": 2**29, "total": 80 * 2**30}}}
            },
            certainty=Certainty.LIKELY,
            title="memory is full .PyTorch has 79 GiB of 80 GiB",
        ),
        Match(
            failure=REFUSED,
            evidence={
                MemoryProbe.name: {"ledgers": {"cuda:0": {"other": 2**30, "outside": 79 * 2**30, "total": 80 * 2**30}}}
            },
            certainty=Certainty.POSSIBLE,
            title="an earlier index was out of range, or another process",
        ),
        NoMatch(
            text="tensorflow.python.framework.errors_impl.UnknownError: Could not create cudnn handle: CUDNN_STATUS_NOT_INITIALIZED"
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if failure.says(ASSERTED) or failure.says(r"tensorflow|jaxlib"):
            return None
        status = hit["status"]
        library = "cuBLAS" if status.startswith("CUBLAS") else "cuDNN"
        seen = evidence[MemoryProbe.name]
        title = (
            f"{library} could not start ({status}): the GPU's memory may be full, or an earlier index was out of range"
        )
        why = (
            "See `nvidia-smi`: where memory is nearly full, make the batch smaller or end other processes. Otherwise run one batch "
            "on the CPU: a label or an id that is out of range is named there."
        )
        certainty = Certainty.POSSIBLE
        shown: tuple[Observation, ...] = ()
        place, reserved = _reserved(seen)
        if place:
            shown = observations(seen, place)
            total = seen["ledgers"][place]["total"]
            held = f"PyTorch has {memory_size(reserved)} of {memory_size(total)}"
            if reserved >= FULL * total:
                certainty = Certainty.LIKELY
                title = f"{library} could not start ({status}): the GPU's memory is full ({held})"
                why = "Its workspace comes from outside of PyTorch's share: make the batch smaller, or free what the failed cell holds."
            elif reserved < EMPTY * total:
                title = f"{library} could not start ({status}): an earlier index was out of range, or another process fills the GPU"
                why = f"{held}, so that it is not this process that fills it. {why}"
        return self.found(
            title,
            certainty,
            what=f"{library} asked the device for its workspace and got none.",
            why=why,
            evidence=shown,
        )


def _reserved(seen: Evidence) -> tuple[str, int]:
    """The CUDA device of which PyTorch has reserved most, and those bytes; empty where there is no ledger of one."""
    ledgers = {place: rows for place, rows in (seen.get("ledgers") or {}).items() if place.startswith("cuda")}
    taken = {
        place: sum(size for row, size in rows.items() if row not in ("total", "outside", "foreign", "free"))
        for place, rows in ledgers.items()
        if rows.get("total")
    }
    return max(taken.items(), key=lambda pair: pair[1], default=("", 0))
