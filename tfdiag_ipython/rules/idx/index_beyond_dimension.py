from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.statements import insert_after_assignment
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_call import IndexCallProbe
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import raised_by_hand
from tfdiag_ipython.rules.idx._words import index_title, outside, too_long


class IndexBeyondDimension(Rule):
    """An index tensor points outside of the tensor that it is used on.

    *What it means*
    A dimension of N entries takes indices 0 to N - 1 (`x[index]` and a few more also count from the end, from -N). On a GPU the same call is a
    device-side assert, after which CUDA is lost to the process.

    *Why it happens*
    The index was computed for a longer tensor (before it was cut, filtered or sharded), it counts from one, or it is a label or an id that was
    made for a larger table.

    *How tfdiag confirms it*
    It reads the failing `gather`, `scatter`, `index_select`, `take` or `x[index]` in the frame in which it stands: the index tensor on the host,
    its first wrong value and the place, and the size that it is held against. What PyTorch's message says must agree with that. Under
    `tfdiag_ipython.guard()` or `%%tfdiag --guard` the index was read before the call, which was not made.
    Where nothing can be read it leaves PyTorch's message to speak for itself, unless that names no number.

    *Fixes and their safety*
    `count-from-zero` (unsafe) subtracts one from an index that runs from 1 to N. Which index was meant otherwise is known to the program only.

    *Example*
    `bad = torch.tensor([0, 9]); torch.zeros(5)[bad]`

    *References*
    torch: `Tensor.gather`, `Tensor.scatter_`, indexing.
    """

    code = "IDX007"
    name = "index-beyond-dimension"
    raised = ("builtins.IndexError", "builtins.RuntimeError", "GuardedIndexError")
    message = re.compile(
        r"tfdiag\.guard stopped (?P<operation>[^:\n]{1,200}): (?P<found>[^\n]{1,300})\."
        r"|index -?\d+ is out of bounds for dimension (?P<dimension>\d+) with size \d+"
        r"|(?P<bare>index out of range in self)[ \t]*(?:\Z|\n)"
        r"|INDICES element is out of DATA bounds, id=-?\d+ axis_dim=\d+"
        r"|tried to access index -?\d+ on a tensor of \d+ elements"
    )
    needs = (IndexCallProbe, IndexTensorsProbe)
    fixes = (Offer("count-from-zero", Applicability.UNSAFE),)
    links = (Link("Indexing", "https://docs.pytorch.org/docs/stable/tensor_view.html"),)
    CASES = (
        Match(
            text="GuardedIndexError: tfdiag.guard stopped scatter_add_ in `pool` of Net: `index[3, 0]` is 8, and dimension 0 has 8 entries (0 to 7).",
            certainty=Certainty.LIKELY,
            title=r"scatter_add_ in `pool` of Net: `index\[3, 0\]` is 8",
        ),
        NoMatch(text="IndexError: index 9 is out of bounds for dimension 0 with size 5"),  # says it all
        NoMatch(text="RuntimeError: index 5 is out of bounds for dimension 1 with size 4"),
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
        Reproduce(
            ("import torch\nx = torch.zeros(2, 3)", "bad = torch.tensor([[0, 1, 9]])", "x.gather(1, bad)"),
            title=r"`bad\[0, 2\]` is 9, and dimension 1 of `x` has 3 entries \(0 to 2\)",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch", "x, batch = torch.zeros(3), {'place': torch.tensor([0, -9])}", "x[batch['place']] = 1.0"),
            title=r"`batch\['place'\]\[1\]` is -9, and dimension 0 of `x` has 3 entries \(-3 to 2\)",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch", "table = torch.eye(3)\nplaces = torch.tensor([1, 2, 3])", "table.index_select(0, places)"),
            title=r"`places\[2\]` is 3, and dimension 0 of `table` has 3 entries",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("count-from-zero"),),
            needs=("torch",),
        ),
        Reproduce(  # nothing to read: the index is never bound to a name
            ("import torch", "embeddings = torch.eye(3)\nembeddings.index_select(0, torch.arange(2) + 4)"),
            title="An index is beyond the end",
            certainty=Certainty.LIKELY,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if raised_by_hand(hit.raised):
            return None  # words of the person's own
        call, tensors = evidence[IndexCallProbe.name], evidence[IndexTensorsProbe.name]
        if "first" in (tensors.get("values") or {}) and tensors.get("kind") in {"embedding", "target"}:
            return None  # ids and labels have rules of their own, which know where their limits come from
        if hit["operation"]:
            return self.found(
                f"{hit['operation']}: {hit['found']}",
                Certainty.CONFIRMED if tensors else Certainty.LIKELY,
                what="The guard stopped the call before it was made: nothing was computed, and a CUDA context stays usable.",
                why="The index was made for a larger tensor, counts from one, or marks something missing with a negative number.",
            )
        if too_long(tensors, hit.raised.message):
            return None  # IDX002 knows why the positions end
        if call:
            return self._read(call, hit)
        looked_up = any(frame.function in {"embedding", "embedding_bag"} for frame in hit.raised.frames)
        if not hit["bare"] or failure.stored or looked_up or not hit.raised.frames:
            return None
        return self.found(
            "An index is beyond the end of the tensor that it selects from",
            Certainty.LIKELY,
            what="`index_select` and its like take indices from 0 to the size of that dimension minus 1; one is outside.",
            why="No embedding is in this traceback, so these are no token ids: look at the indices in the failing line.",
            links=(),
        )

    def _read(self, call: Evidence, hit: Hit) -> Diagnosis:
        values, name = call["values"], call["index"]
        from_one = values["smallest"] == 1 and values["largest"] == call["high"] + 1
        what = outside(values, "indices")
        dimension = re.search(r"^dimension (\d+)", call["limit"])
        if hit["dimension"] and dimension and dimension[1] != hit["dimension"]:
            what += f' (The message counts the indices, not the dimensions: its "dimension {hit["dimension"]}" is dimension {dimension[1]}.)'
        offered: tuple[Fix, ...] = ()
        if from_one and call["own"] and name.isidentifier():
            statement = f"{name} = {name} - 1  # entries count from 0"
            told = f"Adds `{statement}`"
            label = "Count the indices from 0"
            offered = (self.offer("count-from-zero", label, told, variable=name, statement=statement),)
        return self.found(
            index_title(call),
            Certainty.CONFIRMED,
            what=what,
            why=_why(values, from_one),
            evidence=call.seen,
            fixes=offered,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        variable, statement = str(fix.parameters["variable"]), str(fix.parameters["statement"])
        return edit_cells(scene, lambda source: insert_after_assignment(source, variable, statement))


def _why(values: Mapping[str, int], from_one: bool) -> str:
    if from_one:
        return f"The indices run from 1 to {values['largest']}: they count from one."
    if values["first"] < 0:
        return "A negative index often marks something missing (-1, -100): leave those out before the call."
    return "The index was made for a larger tensor: before it was cut, filtered or split, or with another vocabulary or number of classes."
