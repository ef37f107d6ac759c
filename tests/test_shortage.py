"""Every way of saying that memory ran out is heard, wrapped or not; other errors are not."""

import pytest

from tfdiag_ipython.diagnosis import Certainty
from tfdiag_ipython.shortage import out_of_memory


def raised_by(function, *arguments):
    with pytest.raises(BaseException) as caught:
        function(*arguments)
    return caught.value


@pytest.mark.hf
def test_what_pytorch_and_numpy_really_raise_on_this_machine():
    import numpy
    import torch

    for error in (raised_by(torch.empty, 2**46), raised_by(numpy.ones, 2**46), raised_by(bytearray, 2**60)):
        assert out_of_memory(error) is Certainty.LIKELY, error
    assert out_of_memory(torch.OutOfMemoryError("Allocation on device")) is Certainty.LIKELY


@pytest.mark.parametrize(
    ("message", "certainty"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB (GPU ", Certainty.LIKELY),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", Certainty.LIKELY),
        ("CUDA driver error: out of memory", Certainty.LIKELY),
        ("cuda runtime error (2) : out of memory at /pytorch/aten/src/THC/THCGeneral.cpp:50", Certainty.LIKELY),
        ("MPS backend out of memory (MPS allocated: 17.20 GB, max allowed: 18.13 GB)", Certainty.LIKELY),
        ("Invalid buffer size: 58.07 GB", Certainty.LIKELY),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Certainty.POSSIBLE),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", Certainty.POSSIBLE),
        ("GET was unable to find an engine to execute this computation", Certainty.POSSIBLE),
        ("CUDA error: device-side assert triggered", None),
        ("CUBLAS_STATUS_NOT_INITIALIZED: Assertion `srcIndex < srcSelectDimSize` failed.", None),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`", None),
        ("shapes cannot be multiplied (2x3 and 4x5)", None),
    ],
)
def test_the_words_of_a_runtime_error(message, certainty):
    assert out_of_memory(RuntimeError(message)) is certainty


def test_a_wrapped_shortage_counts():
    def wrap():
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("training failed") from error

    assert out_of_memory(raised_by(wrap)) is Certainty.LIKELY
    group = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")
    group.__cause__ = MemoryError()
    assert out_of_memory(group) is Certainty.LIKELY


def test_a_shortage_that_the_program_dealt_with_does_not_count():
    def go_on():
        try:
            raise MemoryError
        except MemoryError:
            int("no number")

    assert out_of_memory(raised_by(go_on)) is None


def test_a_message_that_cannot_be_read_is_no_shortage():
    class Hostile(Exception):
        def __str__(self):
            raise SystemExit

    assert out_of_memory(Hostile()) is None
