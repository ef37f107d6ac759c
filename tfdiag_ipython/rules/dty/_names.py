"""PyTorch's many names of its dtypes."""

from __future__ import annotations

NAMES = {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "bfloat16": "bfloat16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "char": "int8",
    "byte": "uint8",
    "bool": "bool",
}


def dtype_named(text: str) -> str:
    """``float16`` of ``Half``, ``c10::Half``, ``torch.cuda.HalfTensor`` or ``torch.float16``; the last part of any other name."""
    last = text.replace("c10::", "").rpartition(".")[2].removesuffix("Tensor")
    last = last.removeprefix("CPU").removeprefix("CUDA") or last
    return NAMES.get(last.lower(), last)
