from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation, Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.source import dotted, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import SENTENCE, PaddingProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

if TYPE_CHECKING:
    import libcst as cst

SETUP = """
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
sizes = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(BertConfig(**sizes, initializer_range=0.5)).eval()
ids = torch.tensor([[2, 5, 7, 9, 11, 3], [2, 8, 3, 0, 0, 0]])
batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
"""
FACTS = MappingProxyType(
    {
        "without": 0.42,
        "with": 3e-7,
        "tolerance": 1e-5,
        "rows": 4,
        "padded": 3,
        "changed": (1, 3),
        "output": "logits",
        "side": "right",
        "model": "model",
        "inputs": "batch",
        "mask": 'batch["attention_mask"]',
        "given": True,
        "model_class": "BertForSequenceClassification",
    }
)


class UnmaskedPadding(Rule):
    """The model reads the padding, because the call gives it no attention mask.

    *What it means*
    Shorter rows are filled up with a padding token. Without `attention_mask` the model takes these tokens for text, and its answer for a row
    depends on how long the other rows of the batch are. Nothing is raised.

    *Why it happens*
    The call passes `batch["input_ids"]` alone, or the mask got lost on the way (a collator, a `DataLoader`).

    *How tfdiag confirms it*
    `%tfdiag probe padding MODEL INPUTS` runs the model with the mask, without it, and row by row without any padding, and compares the outputs
    at real tokens. It speaks only when they differ by more than rounding; GPT-2 with padding on the right, for example, does not.

    *Fixes and their safety*
    `add-attention-mask` (unsafe: the outputs change, which is the point) passes the mask in the newest cell that calls the model without.

    *Example*
    `model(batch["input_ids"])` → `model(batch["input_ids"], attention_mask=batch["attention_mask"])`

    *References*
    transformers: the glossary's "attention mask"; Padding and truncation.
    """

    code = "PAD001"
    name = "unmasked-padding"
    kinds = ("check",)
    raised = ("padding",)
    message = re.compile(re.escape(SENTENCE))
    fixes = (Offer("add-attention-mask", Applicability.UNSAFE),)
    links = (Link("Attention mask", "https://huggingface.co/docs/transformers/glossary#attention-mask"),)
    CASES = (
        Match(
            failure=Failure.from_finding("padding", SENTENCE, FACTS),
            certainty=Certainty.CONFIRMED,
            title="2 of 4 rows .*0.42",
            fixes=("add-attention-mask",),
        ),
        NoMatch(text=SENTENCE),
        NoMatch(failure=Failure.from_finding("memory", "Nothing about masks.", {})),
        Reproduce(
            (SETUP, 'logits = model(batch["input_ids"]).logits'),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
        ),
        Reproduce(
            (SETUP, "with torch.no_grad():\n    logits = model(input_ids=ids).logits  # no mask"),
            probe="padding model ids",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        count = len(seen["changed"])
        one = "gives" if count == 1 else "give"
        rows = f"{count} of {seen['rows']} rows {one} another answer" if count else "Padded rows come out differently"
        cured = seen["with"] <= seen["tolerance"]
        offered: tuple[Fix, ...] = ()
        if cured:
            offered = (
                self.offer(
                    "add-attention-mask",
                    "Pass the attention mask",
                    f"Adds `attention_mask={seen['mask']}` to the call.",
                    **{key: seen[key] for key in ("model", "inputs", "mask")},
                ),
            )
        why = "Where a call passes no `attention_mask`, padding counts as text; one that passes it is right."
        if not cured:
            why += " The mask alone does not cure it here: padding on the left also moves the positions; pass `position_ids`, or pad on the right."
        return self.found(
            f"{rows} without `attention_mask`: the largest difference in `{seen['output']}` is {seen['without']:.2g}",
            Certainty.CONFIRMED,
            what=f"Each row was compared with the same row alone. With the mask the largest difference is {seen['with']:.2g}.",
            why=why,
            evidence=_evidence(seen),
            fixes=offered,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        model, inputs, mask = (str(fix.parameters[key]) for key in ("model", "inputs", "mask"))
        edited = edit_cells(scene, lambda source: set_arguments(source, _unmasked(model), {"attention_mask": mask}))
        return AddMask(edited, f"{model} {inputs}")


class AddMask(EditCells):
    """Runs the edited cell, and measures again."""

    def __init__(self, plan: EditCells, arguments: str) -> None:
        super().__init__(plan.host, plan.edits, plan.reruns[:1])
        self.arguments = arguments

    def verify(self, progress: Progress) -> Verification:
        ran = super().verify(progress)
        if ran.status is not Status.VERIFIED:
            return ran
        progress.report("Measuring again …")
        seen = PaddingProbe().ask(self.arguments, Scene(self.host.namespace, live=True))
        if not seen:
            return Verification(Status.NOT_CHECKED, f"{ran.detail} It could not be measured again: {seen.missing}.")
        status = Status.VERIFIED if seen["with"] <= seen["tolerance"] else Status.STILL_FAILING
        told = f"with the mask the largest difference to the row alone is {seen['with']:.1g}, without it {seen['without']:.2g}"
        return Verification(status, f"{ran.detail} Measured again: {told}.")


def _unmasked(model: str) -> Any:
    """Accepts calls of the model that pass no mask, and no mapping that could hold one."""

    def accepts(call: cst.Call) -> bool:
        named = {arg.keyword.value for arg in call.args if arg.keyword is not None}
        spread = any(arg.star for arg in call.args)
        return dotted(call.func) == model and not spread and "attention_mask" not in named and len(call.args) > 0

    if not model:
        raise PlanError("The model has no name in the notebook: pass the mask by hand.")
    return accepts


def _evidence(seen: Mapping[str, Any]) -> tuple[Observation, ...]:
    where = f"{seen['model']} on {seen['inputs']}, measured"
    changed = ", ".join(map(str, seen["changed"])) or "none"
    return (
        Observation("largest difference without the mask", f"{seen['without']:.2g}", where),
        Observation("largest difference with the mask", f"{seen['with']:.2g}", where),
        Observation("rows that change their answer", changed, where),
        Observation("padding", f"{seen['padded']} of {seen['rows']} rows, on the {seen['side']}", seen["inputs"]),
    )
