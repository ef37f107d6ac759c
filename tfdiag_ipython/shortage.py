"""Whether an exception says that memory ran out, in all the ways that PyTorch, NumPy and CUDA's libraries have of saying it.

Sources: `c10/cuda/CUDACachingAllocator.cpp`, `c10/core/impl/alloc_cpu.cpp`, `aten/src/ATen/mps/MPSAllocator.mm`,
`aten/src/ATen/cuda/Exceptions.cpp` and `aten/src/ATen/native/cudnn/Conv_v8.cpp` of PyTorch. oneDNN says no more than that it "could not
create a primitive": seen under a limit, where layers in bfloat16 had no room for their code.
"""

from __future__ import annotations

import re

from tfdiag_ipython.diagnosis import Certainty
from tfdiag_ipython.failure import Failure, Raised

_CLASSES = ("OutOfMemoryError", "MemoryError")
_SAID = re.compile(
    r"\b(?:CUDA|HIP|XPU|NPU|MPS|backend|error(?: \(2\))?) ?:? ?out of memory"
    r"|DefaultCPUAllocator: (?:can't allocate|not enough) memory|DefaultMPSAllocator"
    r"|would exceed allowed memory|NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED"
    r"|Invalid buffer size: [\d.]+ \w*B\b|\bunable to mmap \d+ bytes[^\n]{0,300}Cannot allocate memory|\[Errno 12\]"
    r"|\bbad_alloc\b|\bUnable to allocate [\d.]+ \w+ for an array|\bRESOURCE_EXHAUSTED\b",
    re.IGNORECASE,
)
_PERHAPS = re.compile(
    r"(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE|HIPBLAS)_STATUS_(?:\w{0,40}ALLOC(?:ATION)?_FAILED|NOT_INITIALIZED)|CUFFT_ALLOC_FAILED"
    r"|rocblas_status_memory_error|unable to find (?:an engine|a valid cuDNN algorithm)"
    r"|could not (?:create|execute) a (?:primitive(?! descriptor)|memory)\b",
    re.IGNORECASE,
)
"""What full memory makes CUDA's libraries and oneDNN say, and what an earlier or another fault makes them say as well."""
_OTHER_FAULT = re.compile(r"device-side assert|Assertion `")


def out_of_memory(exception: BaseException) -> Certainty | None:
    """How sure it is that memory ran out: ``likely``, ``possible`` (the words have another reading too), or ``None``.

    The exception's causes, contexts, group members and embedded tracebacks count; what the person's own code had caught and dealt
    with does not. Any exception may be given: one whose ``__str__`` raises is read as one without a message.
    """
    found = told_by(Failure.from_exception(exception, versions={}))
    return found[1] if found is not None else None


def told_by(failure: Failure) -> tuple[Raised, Certainty] | None:
    """The exception of the chain that says most surely that memory ran out, and how sure that is."""
    if failure.says(_OTHER_FAULT):
        return None
    heard = ((raised, _said(raised)) for raised in failure.chain if raised.relation != "handled")
    found = [(raised, certainty) for raised, certainty in heard if certainty is not None]
    return min(found, key=lambda one: one[1].rank, default=None)


def _said(raised: Raised) -> Certainty | None:
    if _PERHAPS.search(raised.message):
        return Certainty.POSSIBLE
    return Certainty.LIKELY if raised.is_a(*_CLASSES) or _SAID.search(raised.message) else None
