from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.arguments import with_behind
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import edit_calls, is_written
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.float_indices import FloatIndicesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.dty._names import dtype_named
from tfdiag_ipython.rules.tok._examples import BERT

if TYPE_CHECKING:
    import libcst as cst

MIXED = """import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.l = torch.nn.Embedding(9, 2), torch.nn.Linear(2, 2)
    def forward(self, ids, features):
        return self.emb(ids.float()) + self.l(features)
net = Net()
"""


class IndicesAreNoIntegers(Rule):
    """An embedding was given ids that are floats, or integers of a kind that it does not take.

    *What it means*
    An embedding looks rows up by number: its ids must be int64 (`long`) or, from PyTorch 1.8 on, int32.

    *Why it happens*
    A float cast meant for the features went over the ids as well (`batch.to(torch.float16)`, `.float()`); ids passed through numpy or
    `torch.tensor` of floats; an empty list became a tensor, which is float where nothing says otherwise; on Windows numpy's integers were int32.

    *How tfdiag confirms it*
    It looks which argument of the cell's call is the very tensor that the embedding was given, reads its type, and on the CPU whether its
    values are whole numbers.

    *Fixes and their safety*
    `make-long` (safe: the same whole numbers) writes `.long()` behind it in the call.

    *Example*
    `model(torch.tensor([[2.0, 3.0]]))`.

    *References*
    PyTorch: `torch.nn.functional.embedding`.
    """

    code = "IDX011"
    name = "indices-are-no-integers"
    raised = ("builtins.RuntimeError",)
    message = re.compile(
        r"Expected tensor for argument #1 'indices' to have (?:one of the following )?scalar types? ?:? ?Long(?:, Int)?; "
        r"but got (?:torch\.)?(?:cuda\.)?(?P<kind>\w+?)(?:Tensor)? instead"
    )
    needs = (FloatIndicesProbe,)
    fixes = (Offer("make-long", Applicability.SAFE),)
    CASES = (
        Match(
            text="RuntimeError: Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
            "torch.cuda.HalfTensor instead (while checking arguments for embedding)",
            certainty=Certainty.LIKELY,
            title=r"The ids given to an embedding are float16, and it takes int64: write \.long\(\)",
            fixes=("make-long",),
        ),
        Match(
            text="RuntimeError: Expected tensor for argument #1 'indices' to have scalar type Long; but got CPUIntTensor instead",
            certainty=Certainty.LIKELY,
        ),
        NoMatch(text="RuntimeError: expected scalar type Long but found Float", code="DTY002"),
        NoMatch(text="RuntimeError: Expected tensor for argument #1 'weight' to have the same type"),
        Reproduce(
            (BERT + "import torch", "ids = torch.tensor([[2, 3]]).float()", "scores = model(ids)  # cast too much"),
            title=r"`ids` is float32, and an embedding takes int64: write `ids\.long\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("make-long"),),
        ),
        Reproduce(
            (
                "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                "        self.words = torch.nn.Embedding(9, 2)\n    def forward(self, x):\n        return self.words(x).sum()\nnet = Net()",
                "net(torch.tensor([3, 1], dtype=torch.int16))",
            ),
            title="`x` is int16, and an embedding takes int64",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("make-long"),),
            needs=("torch",),
        ),
        Reproduce(  # a mask may be of floats, and other calls are left alone
            (
                BERT + "import torch\nids, mask, kinds = torch.tensor([[2, 3]]), torch.ones(1, 2), torch.zeros(1, 2)",
                "model(ids, mask, kinds)\nstates = model(ids, mask)",
            ),
            title=r"`kinds` is float32, and an embedding takes int64",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("make-long"),),
        ),
        Reproduce(
            (
                "import torch\nwords = torch.nn.Embedding(3, 2)\nrows = torch.eye(3)",
                "words(rows)",
            ),
            title=r"`rows` holds one-hot rows \(float32\), and an embedding takes their numbers: `rows.argmax\(-1\)`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (BERT + "import torch\nrows = torch.tensor([[]])", "model(input_ids=rows)"),
            title="`rows` is empty, and an empty list becomes float32",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(  # `features` is of floats as well, and the cast in a file's `forward` is at fault
            (
                f"source = {MIXED!r}\nexec(compile(source, 'net.py', 'exec'))\nids, features = torch.tensor([1]), torch.ones(1, 2)",
                "net(ids, features)",
            ),
            title=r"The ids given to an embedding are float32, and it takes int64: write \.long\(\)",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # the same in a cell, where the cast is seen
            (f"{MIXED}ids, features = torch.tensor([1]), torch.ones(1, 2)", "net(ids, features)"),
            title=r"`ids\.float\(\)` is float32, and an embedding takes int64",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
        Reproduce(
            (BERT + "import torch\nshares = torch.tensor([[0.5, 1.5]])", "model(shares)"),
            title=r"`shares` is float32 with fractions, and an embedding takes ids",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[FloatIndicesProbe.name]
        what = "An embedding looks rows up by their number."
        why = "Often a cast that was meant for features went over the ids, too, or they came as floats out of numpy."
        if not seen:
            kind = dtype_named(hit["kind"])
            note = "Before the model or the embedding is called."
            return self.found(
                f"The ids given to an embedding are {kind}, and it takes int64: write .long()",
                Certainty.LIKELY,
                what=what,
                why=why,
                fixes=(self.offer("make-long", "ids = ids.long()", note, display=True),),
            )
        name, kind = f"`{seen['written']}`", str(seen["dtype"])
        fixes: tuple[Fix, ...] = ()
        if seen["empty"]:
            title = f"{name} is empty, and an empty list becomes {kind}: look why there are no ids"
        elif seen["one_hot"]:
            title = f"{name} holds one-hot rows ({kind}), and an embedding takes their numbers: `{seen['written']}.argmax(-1)`"
        elif seen["whole"] is False:
            title = f"{name} is {kind} with fractions, and an embedding takes ids: it seems to be another tensor than was meant"
        else:
            title = f"{name} is {kind}, and an embedding takes int64: write `{seen['written']}.long()`"
            note = "The same whole numbers as int64, which ids are."
            values = {"call": str(seen["call"]), "keyword": str(seen["keyword"]), "place": int(seen["place"])}
            fixes = (self.offer("make-long", "Make it int64", note, display=seen["whole"] is None, **values),)
        return self.found(title, Certainty.CONFIRMED, what=what, why=why, evidence=seen.seen, fixes=fixes)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        written, keyword, place = (fix.parameters[key] for key in ("call", "keyword", "place"))

        def change(call: cst.Call) -> cst.Call:
            return with_behind(call, keyword, place, ".long()")

        return edit_cells(
            scene, lambda source: edit_calls(source, lambda call: is_written(call, written), change), apart=True
        )
