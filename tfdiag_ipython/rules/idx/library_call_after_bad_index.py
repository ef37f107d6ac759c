from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule
from tfdiag_ipython.rules.idx._assertions import asserted


class LibraryCallAfterBadIndex(Rule):
    """A CUDA call failed without saying why: memory is full, or an earlier kernel met an index out of range.

    *What it means*
    The library could not start, or memory outside a tensor was touched. The words do not say why, and several causes are common.

    *Why it happens*
    An index out of range in an earlier kernel (a token id outside the embedding, a label outside the classes) killed the CUDA context, and
    the next call into cuBLAS or cuDNN was the first to notice. Or the GPU's memory is full.

    *How tfdiag confirms it*
    It cannot from here: both causes stay possible. Where the text has an index kernel's assertion, IDX004 says so instead.

    *Fixes and their safety*
    None here: run the failing step on the CPU, where an index out of range names its value.

    *Example*
    `CUBLAS_STATUS_NOT_INITIALIZED when calling cublasCreate(handle)` in the first linear layer after the embedding.

    *References*
    cuBLAS documentation, `cublasStatus_t`; PyTorch forum threads on `cublasCreate`.
    """

    code = "IDX005"
    name = "library-call-after-bad-index"
    raised = ("builtins.RuntimeError", "torch.AcceleratorError")
    message = re.compile(
        r"(?P<status>CUBLAS_STATUS_(?:NOT_INITIALIZED|ALLOC_FAILED|EXECUTION_FAILED|INTERNAL_ERROR)"
        r"|CUDNN_STATUS_(?:EXECUTION_FAILED|MAPPING_ERROR))"
        r"|(?:CUDA|HIP) error: (?P<outside>an illegal memory access was encountered)"
    )
    CASES = (
        Match(
            text="RuntimeError: CUDA error: CUBLAS_STATUS_INTERNAL_ERROR when calling `cublasCreate(handle)`",
            certainty=Certainty.POSSIBLE,
        ),
        Match(
            text="torch.AcceleratorError: CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously",
            certainty=Certainty.POSSIBLE,
            title="outside its tensors",
        ),
        Match(
            text="RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k, &alpha)`",
            certainty=Certainty.POSSIBLE,
            title="cuBLAS failed in a kernel .CUBLAS_STATUS_EXECUTION_FAILED",
        ),
        Match(
            text="RuntimeError: cuDNN error: CUDNN_STATUS_MAPPING_ERROR",
            certainty=Certainty.POSSIBLE,
            title="cuDNN failed in a kernel",
        ),
        NoMatch(
            text="RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`\n"
            "../aten/src/ATen/native/cuda/Indexing.cu:1146: indexSelectLargeIndex: block: [8,0,0], thread: [1,0,0] "
            "Assertion `srcIndex < srcSelectDimSize` failed.",
            code="IDX004",
        ),
        NoMatch(text="tensorflow.python.framework.errors_impl.InternalError: CUBLAS_STATUS_NOT_INITIALIZED"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if asserted(failure) is not None:
            return None  # the assertion says it plainly: IDX004
        if hit["outside"]:
            return self.found(
                "A kernel reached outside its tensors, perhaps by an index out of range; CUDA is unusable: restart the kernel",
                Certainty.POSSIBLE,
                what="The message does not say which kernel; some check their indices, others read whatever lies there.",
                why="Run the failing step on the CPU after the restart: an index out of range names its value there. A custom kernel "
                "(attention, quantization) that does not fit this GPU or torch ends like this, too.",
            )
        library = "cuBLAS" if hit["status"].startswith("CUBLAS") else "cuDNN"
        starting = hit["status"].endswith(("NOT_INITIALIZED", "ALLOC_FAILED")) or failure.says(
            r"cublasCreate|cudnnCreate"
        )
        failed = "could not start" if starting else "failed in a kernel"
        return self.found(
            f"{library} {failed} ({hit['status']}): perhaps an earlier kernel met an index out of range",
            Certainty.POSSIBLE,
            what="The message does not say why; a token id or label out of range in an earlier call ends like this.",
            why="Run the failing step on the CPU: an index out of range names its value there. If it passes, the GPU's memory was full.",
        )
