from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import called, edit_calls, with_arguments
from tfdiag_ipython.fixes.statements import insert_after_assignment
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_call import IndexCallProbe
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._examples import SETUP
from tfdiag_ipython.rules.idx._words import index_title, outside

BATCH = "batch = make_tokenizer()(['a film', 'good film', 'bad film'], return_tensors='pt')\n"


class TargetOutOfRange(Rule):
    """A label is not one of the model's classes.

    *What it means*
    A model with N classes takes labels 0 to N - 1 (and the ignored value, -100). One of the labels is outside; on a GPU the same call is a
    device-side assert.

    *Why it happens*
    The labels count from one, the model was made with fewer classes (`num_labels` is 2 unless it is said), or -1 stands for "no label".

    *How tfdiag confirms it*
    It finds the loss in the frames and reads the labels on the host: their range, the first one outside, and the classes of the scores. Of
    `one_hot` it reads the call itself.

    *Fixes and their safety*
    All are unsafe, because they change what is learnt: `shift-labels` subtracts one where labels run from 1 to N; `set-num-labels` makes the
    model with enough classes; `mask-labels` turns -1 into the ignored value.

    *Example*
    `num_labels=3` and labels 1, 2, 3.

    *References*
    torch: `nn.functional.cross_entropy`; transformers: `PretrainedConfig.num_labels`.
    """

    code = "IDX003"
    name = "target-out-of-range"
    raised = ("builtins.IndexError", "builtins.RuntimeError")
    message = re.compile(
        r"Target (?P<target>-?\d+) is out of bounds|(?P<onehot>Class values must be (?:smaller than num_classes|non-negative))"
        r"|(?P<assertion>Assertion `?cur_target >= 0 && cur_target < n_classes)"
        r"|tfdiag\.guard stopped (?:cross_entropy|nll_loss)\b[^\n]{0,300}? is (?P<guarded>-?\d+),"
    )
    needs = (IndexTensorsProbe, IndexCallProbe)
    fixes = (
        Offer("shift-labels", Applicability.UNSAFE),
        Offer("mask-labels", Applicability.UNSAFE),
        Offer("set-num-labels", Applicability.UNSAFE),
    )
    links = (Link("cross_entropy", "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html"),)
    CASES = (
        Match(
            text="IndexError: Target 12 is out of bounds.",
            certainty=Certainty.LIKELY,
            title="label 12.*at most 12 classes",
        ),
        Match(
            text="IndexError: Target -1 is out of bounds.",
            evidence={
                "index-tensors": {
                    "kind": "target",
                    "limit": 3,
                    "ignore_index": -100,
                    "values": {"smallest": -1, "largest": 2, "first": -1, "place": (4,), "count": 1, "total": 8},
                    "config": {"num_labels": 3},
                    "model": "model",
                    "variable": "labels",
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"`labels` holds -1.*num_labels` is 3",
            fixes=("mask-labels",),
        ),
        Match(text="RuntimeError: Class values must be smaller than num_classes.", title="label"),
        NoMatch(text="IndexError: Dimension out of range (expected to be in range of [-1, 0], but got 1)"),
        NoMatch(text="ValueError: Target is multiclass but average='binary'. Please choose another average setting."),
        Reproduce(
            (
                SETUP,
                "labels = torch.tensor([1, 2, 3])",
                "model = BertForSequenceClassification(BertConfig(num_labels=3, **sizes))",
                BATCH + "loss = model(**batch, labels=labels).loss",
            ),
            title=r"`labels` holds 3.*`model.config.num_labels` is 3",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("shift-labels"), Try("set-num-labels")),
        ),
        Reproduce(
            (
                "import torch, tfdiag_ipython\nlabels = torch.tensor([-100, 1, 2, 3])",
                "with tfdiag_ipython.guard():\n    loss = torch.nn.functional.cross_entropy(torch.zeros(4, 3), labels)",
            ),
            title=r"`labels` holds 3.*the scores have 3 classes",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("shift-labels"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nlabels = torch.tensor([-100, 1, 2, 3])",
                "loss = torch.nn.functional.cross_entropy(torch.zeros(4, 3), labels)",
            ),
            certainty=Certainty.CONFIRMED,
            fixes=(Try("shift-labels"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nlabels = torch.tensor([1, 2, 3])",
                "rows = torch.nn.functional.one_hot(labels, 3)",
            ),
            title=r"`labels\[2\]` is 3, and `num_classes` is 3 \(0 to 2\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("shift-labels"),),
            needs=("torch",),
        ),
        Reproduce(
            (
                SETUP,
                "labels = torch.tensor([0, 1, -1])",
                "model = BertForSequenceClassification(BertConfig(num_labels=3, **sizes))",
                BATCH + "loss = model(**batch, labels=labels).loss",
            ),
            certainty=Certainty.CONFIRMED,
            fixes=(Try("mask-labels"),),
        ),
        Reproduce(
            (
                SETUP + "import tempfile\nfolder = tempfile.mkdtemp()\n"
                "BertForSequenceClassification(BertConfig(num_labels=2, **sizes)).save_pretrained(folder)",
                "labels = torch.tensor([0, 4, 2])",
                "model = BertForSequenceClassification.from_pretrained(folder)",
                BATCH + "loss = model(**batch, labels=labels).loss",
            ),
            title=r"`labels` holds 4.*`model.config.num_labels` is 2",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-num-labels"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[IndexTensorsProbe.name]
        values = seen.get("values") or {}
        if hit["guarded"] and "first" not in values:
            return None  # the guard's own words say as much
        if not hit["target"] and not hit["guarded"]:
            call = evidence[IndexCallProbe.name]
            if call:
                return self._one_hot(call)
            return self.found(
                "A label is not one of the classes: labels go from 0 to the number of classes minus 1",
                Certainty.LIKELY,
                what="One of the labels is negative, or as large as the number of classes or larger.",
                why="The labels count from one, or the number of classes is too small.",
            )
        if seen.get("kind") != "target" or "first" not in values:
            number = int(hit["target"])
            most = f"the model has at most {number} classes" if number > 0 else "labels start at 0"
            return self.found(
                f"There is a label {number}, and {most}",
                Certainty.LIKELY,
                what="A model with N classes takes labels 0 to N - 1, and -100 for what is to be ignored.",
                why="The labels count from one, `num_labels` is too small (its default is 2), or a negative value stands for no label.",
            )
        limit, name = seen["limit"], seen["variable"]
        model = seen["model"] or "model"
        told = seen["config"].get("num_labels") == limit
        has = f"`{model}.config.num_labels` is {limit:,}" if told else f"the scores have {limit:,} classes"
        worst = values["largest"] if values["largest"] >= limit else values["first"]
        return self.found(
            f"{f'`{name}` holds' if name else 'The labels hold'} {worst:,}, and {has}: labels go from 0 to {limit - 1:,}",
            Certainty.CONFIRMED,
            what=outside(values, "labels"),
            why=_why(values, limit, "The model was made with" if told else "The scores have"),
            evidence=seen.seen,
            fixes=self._remedies(seen, values, limit, name),
        )

    def _one_hot(self, call: Evidence) -> Diagnosis:
        values, limit, name = call["values"], call["high"] + 1, call["index"]
        fixes: tuple[Fix, ...] = ()
        why = f"It was asked for {limit:,} classes, and the labels need {values['largest'] + 1:,}."
        if values["first"] < 0:
            why = (
                "A negative label is no class: `one_hot` ignores none, not even -100. Leave those out before the call."
            )
        elif values["smallest"] == 1 and values["largest"] == limit:
            why = f"The labels run from 1 to {limit}: they count from one."
            if call["own"] and name.isidentifier():
                statement = f"{name} = {name} - 1  # classes count from 0"
                label, told = "Count the labels from 0", f"Adds `{statement}`"
                fixes = (self.offer("shift-labels", label, told, variable=name, statement=statement),)
        return self.found(
            index_title(call),
            Certainty.CONFIRMED,
            what=outside(values, "labels"),
            why=why,
            evidence=call.seen,
            fixes=fixes,
        )

    def _remedies(self, seen: Evidence, values: Mapping[str, int], limit: int, name: str) -> tuple[Fix, ...]:
        fixes: list[Fix] = []
        if name.isidentifier() and values["smallest"] == 1 and values["largest"] == limit:
            statement = f"{name} = {name}.where({name} == {seen['ignore_index']}, {name} - 1)  # classes count from 0"
            fixes.append(
                self.offer(
                    "shift-labels", "Count the labels from 0", f"Adds `{statement}`", variable=name, statement=statement
                )
            )
        if name.isidentifier() and values["smallest"] == -1 and values["largest"] < limit:
            ignored = seen["ignore_index"]
            statement = f"{name} = {name}.masked_fill({name} == -1, {ignored})  # {ignored} is ignored by the loss"
            fixes.append(
                self.offer(
                    "mask-labels",
                    f"Have the loss ignore -1 (as {ignored})",
                    f"Adds `{statement}`",
                    variable=name,
                    statement=statement,
                )
            )
        if values["smallest"] >= 0 and seen["model"] and seen["config"].get("num_labels") == limit:
            count = values["largest"] + 1
            fixes.append(
                self.offer(
                    "set-num-labels",
                    f"Make the model with {count:,} classes",
                    f"Sets `num_labels={count}` where the model is made: its classification head becomes a new one, untrained.",
                    model=seen["model"],
                    count=count,
                    has=limit,
                )
            )
        return tuple(fixes)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "set-num-labels":
            count, has = int(fix.parameters["count"]), int(fix.parameters["has"])
            plan = edit_cells(scene, lambda source: set_num_labels(source, has, count), apart=True)
            if not any("num_labels" in source for source in plan.sources):
                raise PlanError("The cell that makes the model was not found: pass num_labels where the model is made.")
            return plan
        variable, statement = str(fix.parameters["variable"]), str(fix.parameters["statement"])
        return edit_cells(scene, lambda source: insert_after_assignment(source, variable, statement))


def _why(values: Mapping[str, int], limit: int, has: str) -> str:
    if values["smallest"] == 1 and values["largest"] == limit:
        return f"The labels run from {values['smallest']} to {values['largest']}: they count from one."
    if values["smallest"] < 0:
        return "The loss takes no negative label but -100, which it ignores."
    return f"{has} {limit:,} classes, and the labels need {values['largest'] + 1:,}."


def set_num_labels(source: str, has: int, count: int) -> str:
    """Where the model that has so many classes or its configuration is made, ask for ``count``; a call with another number makes another."""
    import libcst as cst

    def change(call: cst.Call) -> cst.Call:
        given = next((arg.value for arg in call.args if arg.keyword and arg.keyword.value == "num_labels"), None)
        loads = bool(re.search(r"For\w+Classification\.from_pretrained$", called(call.func)))
        if (given is None and not loads) or (isinstance(given, cst.Integer) and given.evaluated_value != has):
            return call
        return with_arguments(
            call, {"num_labels": str(count), **({"ignore_mismatched_sizes": "True"} if loads else {})}
        )

    return edit_calls(source, lambda call: True, change)
