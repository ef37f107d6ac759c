from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.arguments import DOTTED, gives, with_behind
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.loss_call import LossCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import raised_by_hand
from tfdiag_ipython.rules.dty._names import dtype_named

if TYPE_CHECKING:
    import libcst as cst

SEQUENCES = """import torch
from transformers import BertConfig, BertForSequenceClassification
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
ids = torch.tensor([[2, 3, 4], [3, 2, 5]])
"""
SEVERAL = 'model = BertForSequenceClassification(BertConfig(**sizes, num_labels=3, problem_type="multi_label_classification"))\n'
SCORES = "import torch\nloss = torch.nn.CrossEntropyLoss()\nout = torch.ones(2, 3)\n"
BINARY = re.compile(r"binary_cross_entropy|BCE")


class LabelsOfOtherDtype(Rule):
    """The labels have another dtype than the loss takes.

    *What it means*
    Cross-entropy takes the number of the class as int64; binary cross-entropy (several labels a row) and squared error take floats.

    *Why it happens*
    A column of a table came as floats or int32, or labels of 0 and 1 for several classes were left as whole numbers.

    *How tfdiag confirms it*
    It reads the dtype of the labels in the frame of the loss, and on the CPU whether they are whole numbers.

    *Fixes and their safety*
    `cast-labels` (safe: the same numbers) writes `.long()` or `.float()` behind the labels in the call.

    *Example*
    `torch.nn.CrossEntropyLoss()(torch.ones(2, 3), torch.tensor([1.0, 0.0]))`.

    *References*
    torch: `CrossEntropyLoss`, `BCEWithLogitsLoss`.
    """

    code = "DTY002"
    name = "labels-of-other-dtype"
    raised = ("builtins.RuntimeError", "builtins.NotImplementedError")
    message = re.compile(
        r"expected target dtype to be Long or Byte, but got (?P<target>\w+)"
        r"|[Ee]xpected (?:object of )?scalar type Long but (?:found|got scalar type) (?P<found>Float|Double|Half|BFloat16|Int|Short|Char)\b"
        r"|\"nll_loss\w{0,60}\" not implemented for '(?P<nll>Float|Double|Half|BFloat16|Int|Short|Char)'"
        r"|(?P<cast>result type Float can't be cast to the desired output type Long)"
        r"|Found dtype (?P<has>Long|Int|Double) but expected (?P<wanted>Float|Half|BFloat16)"
    )
    needs = (LossCallProbe,)
    fixes = (Offer("cast-labels", Applicability.SAFE),)
    links = (Link("CrossEntropyLoss", "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html"),)
    CASES = (
        Match(
            text="RuntimeError: expected scalar type Long but found Int",
            certainty=Certainty.LIKELY,
            title=r"The labels are int32, and the loss takes int64: labels\.long\(\)",
        ),
        Match(
            text="RuntimeError: expected target dtype to be Long or Byte, but got Double",
            title="The labels are float64",
        ),
        Match(
            text="RuntimeError: \"nll_loss_forward_reduce_cuda_kernel_2d_index\" not implemented for 'Float'",
            title="The labels are float32, and the loss takes int64",
        ),
        Match(
            text="RuntimeError: Found dtype Double but expected Float",
            title=r"The labels are float64, and the loss computes in float32: labels\.float\(\)",
        ),
        NoMatch(text="RuntimeError: result type Float can't be cast to the desired output type Long"),
        NoMatch(text="RuntimeError: expected scalar type Half but found Float", code="DTY001"),
        NoMatch(text="RuntimeError: \"mse_cpu\" not implemented for 'Long'"),
        Reproduce(
            (SCORES + "y = torch.tensor([1, 0], dtype=torch.int32)", "loss(out, y)"),
            title=r"`y` is int32, and the loss takes int64: write `y\.long\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("cast-labels"),),
            needs=("torch",),
        ),
        Reproduce(  # no call that could be found by a name
            (SCORES + "y = torch.tensor([1.0, 0.0])", "torch.nn.CrossEntropyLoss()(out, y)"),
            title=r"`y` is float32, and the loss takes int64: write `y\.long\(\)`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(  # `y` itself is none of it
            (SCORES + "y = torch.tensor([1.0, 0.0])", "loss(out, y.int())"),
            title=r"The labels that the loss was given are int32, and the loss takes int64: give them \.long\(\)",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (SCORES + "y = torch.tensor([1.0, 0.5])", "loss(out, y)"),
            title="`y` is float32 with fractions, and the loss takes the numbers of classes",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
        Reproduce(
            (SEQUENCES + SEVERAL + "y = torch.tensor([[1, 0, 1], [0, 0, 1]])", "model(ids, labels=y)"),
            title=r"`y` is int64, and the loss for several labels a row takes floats: write `y\.float\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("cast-labels"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[LossCallProbe.name]
        binary = "binary" in seen["loss"] if seen else failure.says(BINARY) is not None
        if raised_by_hand(hit.raised) or (hit["cast"] and not binary):
            return None  # a sum of whole numbers that floats were added to, for example
        if not seen and not failure.stored and not hit["has"]:
            return None  # another operation than a loss
        kind = (
            seen["kind"] if seen else dtype_named(hit["target"] or hit["found"] or hit["nll"] or hit["has"] or "Long")
        )
        floats = bool(binary or hit["has"])
        is_float = kind.startswith(("float", "bfloat"))
        if seen and (is_float and not hit["has"] if floats else kind == "int64"):
            return None
        method = ".float()" if floats else ".long()"
        takes = "and the loss for several labels a row takes floats" if floats else "and the loss takes int64"
        if hit["has"]:
            takes = f"and the loss computes in {dtype_named(hit['wanted'])}"
        written = str(seen["written"]) if seen else ""
        name = f"`{written}` is" if written else "The labels that the loss was given are"
        fixes: tuple[Fix, ...] = ()
        if not seen:
            title = f"The labels are {kind}, {takes}: labels{method}"
        elif not floats and seen["whole"] is False:
            title = f"{name} {kind} with fractions, and the loss takes the numbers of classes"
        else:
            title = f"{name} {kind}, {takes}: " + (f"write `{written}{method}`" if written else f"give them {method}")
            place = {"called": seen["called"], "keyword": seen["keyword"], "place": seen["place"], "method": method}
            place |= {"written": written}
            display = not DOTTED.fullmatch(seen["called"]) or not seen["here"] or seen["whole"] is None
            fixes = (self.offer("cast-labels", f"Write {method}", "The same numbers.", display=display, **place),)
        return self.found(
            title,
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="Cross-entropy takes the number of the class as int64; binary cross-entropy and squared error take floats.",
            why="A table's column comes as it stands in the table; `problem_type` and `num_labels` of a model decide on its loss.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        called, keyword, place, method, written = (
            fix.parameters[key] for key in ("called", "keyword", "place", "method", "written")
        )
        failing = scene.cell.source if scene.cell is not None else ""

        def change(call: cst.Call) -> cst.Call:
            same = gives(call, keyword, place, written)
            return with_behind(call, keyword, place, method) if same else call

        def edit(source: str) -> str:
            return edit_calls(source, lambda call: dotted(call.func) == called, change) if source == failing else source

        return edit_cells(scene, edit)
