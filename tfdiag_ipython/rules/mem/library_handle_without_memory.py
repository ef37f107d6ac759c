from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule

ASSERTED = r"device-side assert|Assertion `|\w+\.cu:\d+"


class LibraryHandleWithoutMemory(Rule):
    """cuBLAS or cuDNN could not start: usually because the GPU's memory is full.

    *What it means*
    Both libraries need a workspace on the device. PyTorch's allocator had taken everything else before they asked.

    *Why it happens*
    Memory is full (of this or another process); or an earlier kernel failed (an index out of range) and this is only the first call
    after it; or the libraries do not fit the driver.

    *How tfdiag confirms it*
    It cannot from the text alone: the diagnosis stays possible. Where a device-side assertion is in the text it is silent.

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
        NoMatch(
            text="tensorflow.python.framework.errors_impl.UnknownError: Could not create cudnn handle: CUDNN_STATUS_NOT_INITIALIZED"
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if failure.says(ASSERTED) or failure.says(r"tensorflow|jaxlib"):
            return None
        status = hit["status"]
        library = "cuBLAS" if status.startswith("CUBLAS") else "cuDNN"
        return self.found(
            f"{library} could not start ({status}): the GPU's memory may be full, or an earlier index was out of range",
            Certainty.POSSIBLE,
            what=f"{library} asked the device for its workspace and got none.",
            why="See `nvidia-smi`: where memory is nearly full, make the batch smaller or end other processes. Otherwise run one batch "
            "on the CPU: a label or an id that is out of range is named there.",
        )
