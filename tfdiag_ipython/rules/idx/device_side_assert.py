from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status
from tfdiag_ipython.failure import Failure, Frame, Raised
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.restart import LOST, RESTART, restart
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_call import IndexCallProbe
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._assertions import asserted
from tfdiag_ipython.rules.idx._words import index_title

RECORDED = Failure(
    "exception",
    (
        Raised(
            ("torch.AcceleratorError", "builtins.RuntimeError", "builtins.Exception", "builtins.BaseException"),
            "CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in the CUDA runtime documentation.",
            frames=(Frame("torch/nn/functional.py", "cross_entropy", 3458, "return torch._C._nn.cross_entropy_loss("),),
        ),
    ),
)
ASSERTED = replace(
    RECORDED, chain=(replace(RECORDED.top, frames=(Frame("<cell>", "<module>", 1, "x.gather(1, bad.cuda())"),)),)
)
CALLED = {
    "operation": "gather",
    "argument": "index",
    "index": "bad",
    "own": True,
    "tensor": "x",
    "limit": "dimension 1 of `x` has 3 entries",
    "low": 0,
    "high": 2,
    "values": {"smallest": 0, "largest": 9, "first": 9, "place": (0, 2), "count": 1, "total": 3},
    "where": "line 1",
}


class DeviceSideAssert(Rule):
    """A CUDA kernel met an index that is out of range, and this process's CUDA context is dead.

    *What it means*
    A kernel checked its own input, found it impossible, and stopped. CUDA reports it later and elsewhere, often at an innocent line, and
    nothing on the GPU can be used in this process any more.

    *Why it happens*
    A label outside the classes, a token id outside the embedding, a text longer than the positions, or an index given to `gather`.

    *How tfdiag confirms it*
    It never touches CUDA again. The assertion that the kernel printed names the operation (in a notebook it is heard on file descriptor 2, in
    a terminal it only stands on the screen); the frames on the host give the shapes, the model's limits and whatever indices are still in
    host memory: labels and ids, and what the failing line hands to `gather`, `x[index]` and their like.

    *Fixes and their safety*
    `restart-kernel` (unsafe: all variables are lost). Nothing is run again by itself: in the new kernel `%load_ext tfdiag`
    lists the cells to run again and runs them on a click, the failing one under `%%tfdiag --guard`, which stops the bad index before the
    GPU sees it and names it; on the CPU the same call names the value, too.

    *Example*
    `torch.nn.functional.cross_entropy(scores.cuda(), torch.tensor([5]).cuda())` with three classes.

    *References*
    torch: CUDA semantics, asynchronous execution; `aten/src/ATen/native/cuda/Indexing.cu`, `Loss.cu`, `IndexKernel.cu`.
    """

    code = "IDX004"
    name = "device-side-assert"
    raised = ("builtins.RuntimeError", "torch.AcceleratorError")
    message = re.compile(
        r"device-side assert(?:ion)? triggered|CUDA error: an illegal memory access was encountered[\s\S]{0,600}?Assertion"
        r"|Assertion [`']?[^`'\n]{0,200}?(?:srcIndex < srcSelectDimSize|index out of bounds|n_classes|idx_dim)[^\n]{0,300}?failed"
        r"|\.cuh?:\d+:[^\n]{0,300} thread: \[[^\n]{1,60}[Aa]ssertion [^\n]{1,300}failed"
    )
    needs = (IndexTensorsProbe, IndexCallProbe)
    fixes = (Offer("restart-kernel", Applicability.UNSAFE),)
    links = (Link("CUDA semantics", "https://docs.pytorch.org/docs/stable/notes/cuda.html#asynchronous-execution"),)
    CASES = (
        Match(
            text="RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported at some other "
            "API call, so the stacktrace below might be incorrect.",
            certainty=Certainty.LIKELY,
            title="out of range.*restart",
        ),
        Match(
            text="RuntimeError: CUDA error: device-side assert triggered\n/pytorch/aten/src/ATen/native/cuda/Loss.cu:245: nll_loss_forward: "
            "block: [0,0,0], thread: [4,0,0] Assertion `t >= 0 && t < n_classes` failed.",
            certainty=Certainty.LIKELY,
            title="label",
        ),
        Match(
            text="RuntimeError: ../aten/src/ATen/native/cuda/Indexing.cu:1290: indexSelectLargeIndex: block: [1,0,0], thread: [5,0,0] "
            "Assertion `srcIndex < srcSelectDimSize` failed.",
            certainty=Certainty.LIKELY,
            title="embedding",
        ),
        Match(
            failure=RECORDED,
            evidence={
                "index-tensors": {
                    "kind": "target",
                    "limit": 3,
                    "ignore_index": -100,
                    "device": "cuda:0",
                    "shape": (8,),
                    "config": {"num_labels": 3},
                    "model": "model",
                    "variable": "",
                    "length": 0,
                }
            },
            certainty=Certainty.LIKELY,
            title=r"label.*`model.config.num_labels` is 3",
            fixes=("restart-kernel",),
        ),
        Match(
            text="RuntimeError: CUDA error: device-side assert triggered\n../aten/src/ATen/native/cuda/Loss.cu:92: operator(): block: [0,0,0], "
            "thread: [6,0,0] Assertion `input_val >= zero && input_val <= one` failed.",
            certainty=Certainty.LIKELY,
            title="probability",
        ),
        Match(
            text="/pytorch/aten/src/ATen/native/cuda/TensorCompare.cu:110: _assert_async_cuda_kernel: block: [0,0,0], thread: [0,0,0] "
            "Assertion `probability tensor contains either `inf`, `nan` or element < 0` failed.",
            title="probability",
        ),
        Match(
            failure=RECORDED,
            evidence={
                "index-tensors": {
                    "kind": "none",
                    "config": {"num_labels": 3},
                    "model": "classifier",
                    "host": {
                        "variable": "labels",
                        "kind": "label",
                        "limit": 3,
                        "origin": "config.num_labels",
                        "values": {"smallest": 0, "largest": 5, "first": 5, "place": (1,), "count": 1, "total": 8},
                    },
                }
            },
            certainty=Certainty.LIKELY,
            title=r"`labels` holds 5, and `classifier.config.num_labels` is 3; .*restart",
        ),
        Match(
            failure=ASSERTED,
            evidence={"index-tensors": {"kind": "none", "config": {}, "model": "", "cuda": True}, "index-call": CALLED},
            certainty=Certainty.LIKELY,
            title=r"`bad\[0, 2\]` is 9, and dimension 1 of `x` has 3 entries \(0 to 2\); .*restart",
        ),
        NoMatch(
            text="RuntimeError: CUDA error: no kernel image is available for execution on the device", code="ENV002"
        ),
        NoMatch(text="AssertionError: index out of bounds"),
        Reproduce(
            (
                "import torch\nlabels = torch.tensor([0, 5]).cuda()\nscores = torch.zeros(2, 3).cuda()",
                "loss = torch.nn.functional.cross_entropy(scores, labels)\ntorch.cuda.synchronize()",
            ),
            certainty=Certainty.LIKELY,
            title="restart",
            fixes=(Try("restart-kernel", Status.PENDING),),
            needs=("torch",),
            isolated=True,
            gpu=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, call = evidence[IndexTensorsProbe.name], evidence[IndexCallProbe.name]
        if seen.get("cuda") is False:
            return None  # a text about an assertion, in a process that does not use CUDA
        operation = asserted(failure)
        kind = operation.kind if operation else {"target": "label", "embedding": "id"}.get(str(seen.get("kind")), "")
        if kind == "label":
            answer = "A label is outside the model's classes"
        elif kind == "id":
            answer = "An id is outside the embedding that it is looked up in"
        elif kind == "probability":
            answer = "A probability is not between 0 and 1 (below, above, inf or nan) on the GPU"
        else:
            answer = "An index is out of range on the GPU"
        number = (seen.get("config") or {}).get("num_labels")
        host = seen.get("host") or {}
        if host and kind in {"", host["kind"]}:
            origin = f"`{seen.get('model') or 'model'}.{host['origin']}` is" if host["origin"] else "the scores have"
            values, limit = host["values"], host["limit"]
            worst = values["largest"] if values["largest"] >= limit else values["first"]
            answer = f"`{host['variable']}` holds {worst}, and {origin} {limit:,}{'' if host['origin'] else ' classes'}"
        elif call and not kind:
            answer = index_title(call)
        elif kind == "label" and number is not None:
            answer += f" (`{seen.get('model') or 'model'}.config.num_labels` is {number})"
        elif seen.get("limit") and kind != "probability":
            answer += f" (valid are 0 to {seen['limit'] - 1:,})"
        what = "CUDA's context in this process is dead: nothing on the GPU can be used until the kernel restarts."
        if operation:
            what = f"The kernel's own words: {operation.words} ({operation.file}). {what}"
        fix: Fix = self.offer(
            "restart-kernel",
            RESTART,
            f"{LOST[:-1]}, the failing one under `%%tfdiag --guard`.",
        )
        return self.found(
            f"{answer}; CUDA is unusable in this process: restart the kernel",
            Certainty.LIKELY,
            what=what,
            why="After the restart put `%%tfdiag --guard` on top of the failing cell: the guard stops the bad index before it reaches the GPU, and "
            "names argument, value and limit. Or run the step on the CPU (`model.to('cpu')`, inputs too): there the call names the value.",
            evidence=seen.seen + call.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return restart(scene, guarded=True)
