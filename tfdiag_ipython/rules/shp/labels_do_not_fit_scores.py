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
from tfdiag_ipython.fixes.statements import insert_before_call
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.loss_call import LossCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, passes, raised_by_hand
from tfdiag_ipython.rules.shp._labels import Answer, of_loss, of_model, told

if TYPE_CHECKING:
    import libcst as cst

MODELS = """import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
ids = torch.tensor([[2, 3, 4], [3, 2, 5]])
"""
SEQUENCES = f"{MODELS}model = BertForSequenceClassification(BertConfig(**sizes, num_labels=3))\n"
TOKENS = f"{MODELS}model = BertForTokenClassification(BertConfig(**sizes, num_labels=3))\n"
OF_MODEL = 'Traceback (most recent call last):\n  File "/x/transformers/loss/loss_utils.py", line 9, in fixed_cross_entropy\n    loss()\n'
SCORES = "import torch\nloss = torch.nn.CrossEntropyLoss()\n"


class LabelsDoNotFitScores(Rule):
    """The labels have another shape than the loss needs for the model's scores.

    *What it means*
    A loss compares each score with its label. A sequence classifier takes one label a row, a token classifier and a language model one a token,
    a multi-label model one column a class.

    *Why it happens*
    The collator or the data set of another task was used (labels for tokens with a classifier of texts), labels are floats, so that the
    model takes them for several labels a row, or a dimension of size one is left over.

    *How tfdiag confirms it*
    It compares the shape of the labels in the call with the scores in the loss, and reads the model's `problem_type` and `num_labels`.

    *Fixes and their safety*
    `fit-shape` (safe: the same values) removes or adds the dimension of size one, or moves the classes to where the loss reads them.
    `labels-as-classes` (unsafe: another loss) makes float labels whole numbers and sets the `problem_type`.

    *Example*
    `BertForSequenceClassification(config)(ids, labels=ids)`.

    *References*
    torch: `CrossEntropyLoss`, `BCEWithLogitsLoss`; transformers: `loss/loss_utils.py`.
    """

    code = "SHP001"
    name = "labels-do-not-fit-scores"
    raised = ("builtins.ValueError", "builtins.RuntimeError")
    message = re.compile(
        r"Expected input batch_size \((?P<rows>\d+)\) to match target batch_size \((?P<labels>\d+)\)"
        r"|Target size \(torch\.Size\(\[(?P<target>[\d, ]*)\]\)\) must be the same as input size \(torch\.Size\(\[(?P<input>[\d, ]*)\]\)\)"
        r"|Using a target size \(torch\.Size\(\[(?P<given>[\d, ]*)\]\)\) that is different to the input size \(torch\.Size\(\[(?P<scores>[\d, ]*)\]\)\)"
        r"|(?P<many>(?:0D or )?1D target tensor expected, multi-target not supported)"
        r"|Expected target size \[(?P<should>[\d, ]+)\], got \[(?P<got>[\d, ]+)\]"
    )
    needs = (LossCallProbe,)
    fixes = (Offer("fit-shape", Applicability.SAFE), Offer("labels-as-classes", Applicability.UNSAFE))
    links = (Link("CrossEntropyLoss", "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html"),)
    CASES = (
        Match(
            text=f"{OF_MODEL}ValueError: Expected input batch_size (4) to match target batch_size (512).",
            certainty=Certainty.LIKELY,
            title="There are 512 labels for 4 rows of scores, 128 for each: labels of tokens, given to a classifier of whole texts",
        ),
        Match(  # of a network of one's own it may be a wrong `view`
            text="ValueError: Expected input batch_size (500) to match target batch_size (1).",
            title=r"There is 1 label for 500 rows of scores\Z",
        ),
        Match(
            text=f"{OF_MODEL}ValueError: Expected input batch_size (96) to match target batch_size (3).",
            title="There are 3 labels for 96 rows of scores: one for each text, where each token needs one",
        ),
        Match(
            text="ValueError: Expected input batch_size (7) to match target batch_size (5).",
            title="There are 5 labels for 7 rows of scores",
        ),
        Match(
            text="ValueError: Target size (torch.Size([16])) must be the same as input size (torch.Size([16, 5]))",
            title="The labels are 16, and the scores are 16 × 5",
        ),
        Match(
            text="RuntimeError: 0D or 1D target tensor expected, multi-target not supported",
            title="more than one dimension",
        ),
        Match(text="RuntimeError: Expected target size [4, 7], got [4, 12]", title="The labels are 4 × 12, .* 4 × 7"),
        NoMatch(text="ValueError: Expected input batch size to be positive"),
        NoMatch(text="ValueError: Target size must be an int"),
        NoMatch(text="RuntimeError: Expected hidden[0] size (1, 2, 3), got [1, 4, 3]"),
        Reproduce(
            (SEQUENCES, "model(ids, labels=ids)"),
            title="`ids` has a label for each token .2 × 3., and BertForSequenceClassification takes one for each row .2.",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(
            (TOKENS + "y = torch.tensor([1, 0])", "model(ids, labels=y)"),
            title="`y` has a label for each row .2., and BertForTokenClassification takes one for each token .2 × 3.",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(
            (SEQUENCES + "y = torch.tensor([1.0, 0.0])", "model(ids, labels=y)  # from a CSV"),
            title="`y` is float32, which the model takes for several labels a row: one class a row is a whole number",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("labels-as-classes"),),
        ),
        Reproduce(
            (SEQUENCES + "y = torch.tensor([1])", "model(input_ids=ids, labels=y)"),
            title="`y` has 1 row, and the batch has 2",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(
            (SCORES + "out, y = torch.ones(4, 3), torch.ones(4, 1).long()", "loss(out, y)"),
            title=r"`y` is 4 × 1, and the loss takes 4: write `y\.squeeze\(1\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("fit-shape"),),
            needs=("torch",),
        ),
        Reproduce(  # another call in the cell has what it needs
            (
                SCORES + "out, y, z = torch.ones(4, 3), torch.ones(4).long(), torch.ones(4, 1).long()",
                "loss(out, y)\nloss(out, z)",
            ),
            title=r"`z` is 4 × 1, and the loss takes 4: write `z\.squeeze\(1\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("fit-shape"),),
            needs=("torch",),
        ),
        Reproduce(
            (SCORES + "out, y = torch.ones(2, 5, 3), torch.ones(2, 5).long()", "loss(out, y)"),
            title=r"`out` is 2 × 5 × 3, and the loss looks for the classes in its dimension 1: write `out\.transpose\(1, 2\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("fit-shape"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch.nn.functional as F, torch\nout, y = torch.ones(4, 1), torch.ones(4)",
                "F.binary_cross_entropy_with_logits(out, y)",
            ),
            title=r"`y` is 4, and the scores are 4 × 1: write `y\.unsqueeze\(1\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("fit-shape"),),
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if raised_by_hand(hit.raised):
            return None
        seen = evidence[LossCallProbe.name]
        answer = (
            (of_model(seen) if seen["model"] else of_loss(seen))
            if seen
            else told(hit, by_model=passes(failure, TRANSFORMERS))
        )
        fixes: tuple[Fix, ...] = ()
        if answer.method:
            fixes = (self._offered(seen, answer),)
        return self.found(
            answer.title,
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="A loss compares each score with its label; their shapes must fit.",
            why=answer.why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _offered(self, seen: Evidence, answer: Answer) -> Fix:
        scores = answer.of_scores
        place = {"called": seen["called"], "keyword": "" if scores else seen["keyword"], "method": answer.method}
        place |= {"place": seen["first"] if scores else seen["place"]}
        place |= {"written": seen["scored"] if scores else seen["written"]}
        display = not DOTTED.fullmatch(seen["called"]) or not seen["here"]
        if answer.problem:
            told = f'Writes `{answer.method}` behind the labels, and `problem_type = "{answer.problem}"` before the call: the model noted the other.'
            return self.offer(
                "labels-as-classes",
                "Take them for one class a row",
                told,
                display=display,
                problem=answer.problem,
                **place,
            )
        return self.offer(
            "fit-shape",
            f"Write {answer.method}",
            "The same values in the shape that the loss takes.",
            display=display,
            **place,
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
            if source != failing:
                return source
            changed = edit_calls(source, lambda call: dotted(call.func) == called, change)
            if fix.id != "labels-as-classes" or changed == source:
                return changed
            return insert_before_call(changed, called, f'{called}.config.problem_type = "{fix.parameters["problem"]}"')

        return edit_cells(scene, edit, undoable=fix.id == "fit-shape")
