from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule


class IndexBeyondDimension(Rule):
    """An index tensor points outside of the tensor that it is used on: tfdiag's guard has seen it before the call.

    *What it means*
    A dimension of N entries takes indices 0 to N - 1 (`x[index]` and a few more also count from the end, from -N). On a GPU the same call is a
    device-side assert, after which CUDA is lost to the process.

    *Why it happens*
    The index was computed for a longer tensor (before it was cut, filtered or sharded), it counts from one, or it is a label or an id that was
    made for a larger table.

    *How tfdiag confirms it*
    Under `tfdiag_ipython.guard()` or `%%tfdiag --guard` the index was read before the call: the first wrong value, its place and the limit are
    known, and the call was not made.

    *Fixes and their safety*
    None: which index was meant is known to the program only.

    *Example*
    `with tfdiag_ipython.guard(): torch.zeros(5)[torch.tensor([9])]`

    *References*
    torch: `Tensor.gather`, `Tensor.scatter_`, indexing; `torch.overrides.TorchFunctionMode`.
    """

    code = "IDX007"
    name = "index-beyond-dimension"
    raised = ("GuardedIndexError",)
    message = re.compile(r"tfdiag\.guard stopped (?P<operation>[^:\n]{1,200}): (?P<found>[^\n]{1,300})\.")
    needs = (IndexTensorsProbe,)
    links = (Link("Indexing", "https://docs.pytorch.org/docs/stable/tensor_view.html"),)
    CASES = (
        Match(
            text="GuardedIndexError: tfdiag.guard stopped scatter_add_ in `pool` of Net: `index[3, 0]` is 8, and dimension 0 has 8 entries (0 to 7).",
            certainty=Certainty.LIKELY,
            title=r"scatter_add_ in `pool` of Net: `index\[3, 0\]` is 8",
        ),
        NoMatch(text="IndexError: index 9 is out of bounds for dimension 0 with size 5"),  # says it all
        NoMatch(text="IndexError: index 9 is out of bounds for axis 0 with size 5"),
        NoMatch(text="IndexError: list index out of range"),
        Reproduce(
            (
                "import torch, tfdiag_ipython",
                "with tfdiag_ipython.guard():\n    torch.zeros(2, 5).gather(1, torch.tensor([[0, 7]]))",
            ),
            title=r"gather: `index\[0, 1\]` is 7.*dimension 1 has 5 entries",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[IndexTensorsProbe.name]
        if "first" in (seen.get("values") or {}) and seen.get("kind") in {"embedding", "target"}:
            return None  # ids and labels have rules of their own, which know where their limits come from
        return self.found(
            f"{hit['operation']}: {hit['found']}",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="The guard stopped the call before it was made: nothing was computed, and a CUDA context stays usable.",
            why="The index was made for a larger tensor, counts from one, or marks something missing with a negative number.",
        )
