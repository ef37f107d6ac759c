"""Is this exception a refusal of memory? PyTorch's own class is only one of the ways in which that is said.

Sources: ``c10/cuda/CUDACachingAllocator.cpp``, ``c10/cuda/CUDAException.h``, ``aten/src/ATen/cuda/Exceptions.h``, ``c10/core/impl/alloc_cpu.cpp``.
"""

from __future__ import annotations

import re
import sys
from typing import Any

_WORDS = re.compile(
    r"out of memory|OutOfMemory|exceed allowed memory|not enough memory|[Cc]an(?:'|no)t allocate memory|[Uu]nable to allocate"
    r"|(?:CUBLAS|CUSOLVER|CUSPARSE|CUDNN|HIPBLAS|rocblas)_(?:STATUS_)?(?:ALLOC_FAILED|memory_error)|CUFFT_ALLOC_FAILED"
    r"|(?:CUBLAS|CUSOLVER|CUSPARSE|CUDNN)_STATUS_NOT_INITIALIZED|CUDNN_STATUS_INTERNAL_ERROR_\w*ALLOCATION_FAILED"
    r"|[Uu]nable to find an engine to execute this computation|NVML_SUCCESS == \w+ INTERNAL ASSERT FAILED"
    r"|bad_alloc|could not create a memory(?: object)?\b|RESOURCE_EXHAUSTED",
)
_WANTED = re.compile(r"[Tt]ried to allocate (\d+(?:\.\d+)?) ?([KMGT]?)i?B?")
LONGEST = 120
"""Characters of an error that are shown."""


def refusal(error: BaseException) -> str:
    """The first words of what refused memory, of this exception or of one that it was raised from; empty for another error."""
    torch: Any = sys.modules.get("torch")
    kinds = tuple(
        kind
        for kind in (
            getattr(torch, "OutOfMemoryError", None),
            getattr(getattr(torch, "cuda", None), "OutOfMemoryError", None),
        )
        if isinstance(kind, type)
    )
    current: BaseException | None = error
    for _ in range(16):
        if current is None:
            return ""
        text = str(current)
        if isinstance(current, (MemoryError, *kinds)):
            return words(current)
        if isinstance(current, (RuntimeError, OSError, ValueError)) and _WORDS.search(text):
            return words(current)
        current = current.__cause__ or current.__context__
    return ""


def wanted(told: str) -> int:
    """Bytes that were asked for, by the words of :func:`refusal`; 0 where they do not say."""
    found = _WANTED.search(told)
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")) if found else 0


def words(error: BaseException) -> str:
    """The first line of an error with its kind, cut to be read in a table."""
    lines = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    told = re.sub(r"^(\w+): \[enforce fail at [^\]]*\] [^.]*\. ", r"\1: ", told)
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
