"""What CUDA kernels print on file descriptor 2 when they assert, and which operation that was.

Source: ``aten/src/ATen/native/cuda/`` of PyTorch 1.7 to 2.13 (``Indexing.cu``, ``Loss.cu``, ``NLLLoss2d.cu``, ``IndexKernel.cu``,
``ScatterGatherKernel.cu``) and ``THC/THCTensorIndex.cu`` before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfdiag_ipython.failure import Failure

_LINE = re.compile(
    r"(?<!\w)(?P<file>\w+\.cuh?)\b.{0,400}?[Aa]ssertion [`'\"]?(?P<words>[^\n]{1,200}?)[`'\"]? failed", re.DOTALL
)
_WORDS = re.compile(r"[Aa]ssertion [`'\"]?(?P<words>[^`'\"\n]{1,200}?)[`'\"]? failed")
_KINDS = (
    (re.compile(r"srcIndex < srcSelectDimSize|vectorized_gather|vectorized gather"), "id"),
    (re.compile(r"n_classes|cur_target|t >= 0"), "label"),
    (re.compile(r"probability tensor|input_val|input\[0\] != 0|THCNumerics<T>::ge|val >= zero"), "probability"),
)


@dataclass(frozen=True)
class Operation:
    """The assertion: its words, the kernel's file, and what was wrong (``id``, ``label``, ``probability`` or empty)."""

    words: str
    file: str
    kind: str


def asserted(failure: Failure) -> Operation | None:
    """The assertion that the failure's text holds, if any."""
    found = failure.says(_LINE)
    words = found or failure.says(_WORDS)
    if words is None:
        return None
    kind = next((kind for pattern, kind in _KINDS if pattern.search(words["words"])), "")
    if not kind and found and found["file"].startswith(("Loss", "NLLLoss", "ClassNLLCriterion", "SpatialClassNLL")):
        kind = "label"
    if not kind and not re.search(r"Index|idx|target|dim|gather|index", words["words"]):
        return None
    return Operation(words["words"].strip(), found["file"] if found else "a CUDA kernel", kind)
