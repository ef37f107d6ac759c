"""Whether an exception says that memory ran out, in all the ways that PyTorch, NumPy and CUDA's libraries have of saying it.

Sources: `c10/cuda/CUDACachingAllocator.cpp`, `c10/core/impl/alloc_cpu.cpp`, `aten/src/ATen/mps/MPSAllocator.mm`,
`aten/src/ATen/cuda/Exceptions.cpp` and `aten/src/ATen/native/cudnn/Conv_v8.cpp` of PyTorch.
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
    r"|Invalid buffer size: [\d.]+ \w*B\b|\bunable to mmap \d+ bytes[^\n]*Cannot allocate memory",
    re.IGNORECASE,
)
_PERHAPS = re.compile(
    r"(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_(?:\w*ALLOC(?:ATION)?_FAILED|NOT_INITIALIZED)|CUFFT_ALLOC_FAILED"
    r"|unable to find (?:an engine|a valid cuDNN algorithm)",
    re.IGNORECASE,
)
"""What a full device makes CUDA's libraries say, and what an earlier fault makes them say as well."""
_OTHER_FAULT = re.compile(r"device-side assert|Assertion `")


def out_of_memory(exception: BaseException) -> Certainty | None:
    """How sure it is that memory ran out: ``likely``, ``possible`` (the words have another reading too), or ``None``.

    The exception's causes, contexts, group members and embedded tracebacks count; what the person's own code had caught and dealt
    with does not. Any exception may be given: one whose ``__str__`` raises is read as one without a message.
    """
    return said_in(Failure.from_exception(exception, versions={}))


def said_in(failure: Failure) -> Certainty | None:
    """The same of a failure's values."""
    if failure.says(_OTHER_FAULT):
        return None
    found = [_said(raised) for raised in failure.chain if raised.relation != "handled"]
    return min((certainty for certainty in found if certainty), key=lambda one: one.rank, default=None)


def _said(raised: Raised) -> Certainty | None:
    if _PERHAPS.search(raised.message):
        return Certainty.POSSIBLE
    return Certainty.LIKELY if raised.is_a(*_CLASSES) or _SAID.search(raised.message) else None
