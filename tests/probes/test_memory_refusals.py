"""Every way in which memory is refused is known as that, and other errors are not."""

import pytest

from tfdiag_ipython.probes.memory_refusals import refusal, wanted, words


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 14.75 GiB total capacity)"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("Unable to find an engine to execute this computation"),
        RuntimeError("HIP out of memory. Tried to allocate 96.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
        ),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
        ),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        OSError(12, "Cannot allocate memory"),
        ValueError("Unable to allocate 7.45 GiB for an array"),
    ],
)
def test_a_refusal_is_known(error):
    assert refusal(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("Expected more than 1 value per channel when training"),
        IndexError("index out of range in self"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("could not create a primitive descriptor for the matmul primitive"),
        KeyError("out of memory"),
    ],
)
def test_another_error_is_none(error):
    assert refusal(error) == ""


def test_a_refusal_that_a_library_wrapped_is_known():
    try:
        try:
            raise MemoryError
        except MemoryError as inner:
            raise RuntimeError("the step failed") from inner
    except RuntimeError as error:
        assert refusal(error) == "MemoryError"


def test_an_error_after_a_refusal_that_the_program_dealt_with_is_another_one():
    try:
        try:
            raise MemoryError
        except MemoryError:
            int("no number")
    except ValueError as error:
        assert refusal(error) == ""


def test_an_error_whose_message_cannot_be_read_is_told_by_its_kind():
    class Hostile(Exception):
        def __str__(self):
            raise RuntimeError

    assert refusal(Hostile()) == "" and words(Hostile()).startswith("Hostile: ")


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("Tried to allocate 20.00 MiB", 20 * 2**20),
        ("you tried to allocate 1245184 bytes", 1245184),
        ("tried to allocate 1.5 GiB.", 3 * 2**29),
        ("CUDA error: out of memory", 0),
    ],
)
def test_what_was_asked_for_is_read(told, number):
    assert wanted(told) == number
