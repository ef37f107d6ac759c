from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation, Status, Verification
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.model_calls import Program, add_mask
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import SENTENCE, PaddingProbe, named_inputs
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.watch.model_calls import by_name, calls_of
from tfdiag_ipython.watch.padding import SUSPECTED

SETUP = """
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
sizes = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(BertConfig(**sizes, initializer_range=0.5)).eval()
ids = torch.tensor([[2, 5, 7, 9, 11, 3], [2, 8, 3, 0, 0, 0]])
batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
"""
UNSEEN = (
    "The cells that were run do not show whether `{model}` is called on `{inputs}` without a mask: if your call passes it, all is well; "
    "else padding counts as text."
)
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
        "unmasked": (("cell 3", 'model(batch["input_ids"])'),),
        "masked": (),
        "editable": True,
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
    `%%tfdiag` notices a call of a Transformers model whose ids look padded and that passes no mask, and measures it when the cell has
    ended, if that takes about two seconds at most; `%tfdiag probe padding MODEL INPUTS` measures on request: it runs the model with the mask, without it, and row by row without any padding, and compares the outputs
    at real tokens. It speaks only when they differ by more than rounding; GPT-2 with padding on the right, for example, does not. It is
    `confirmed` where a cell that was run calls the model on these inputs without a mask, and silent where all such calls pass it.

    *Fixes and their safety*
    `add-attention-mask` (unsafe: the outputs change, which is the point) passes the mask in the calls on these inputs. It is verified by
    watching the calls while the cells run again, and by measuring once more.

    *Example*
    `model(batch["input_ids"])` → `model(batch["input_ids"], attention_mask=batch["attention_mask"])`

    *References*
    transformers: the glossary's "attention mask"; Padding and truncation.
    """

    code = "PAD001"
    name = "unmasked-padding"
    kinds = ("check",)
    raised = ("padding",)
    message = re.compile(f"{re.escape(SENTENCE)}|{re.escape(SUSPECTED)}")
    fixes = (Offer("add-attention-mask", Applicability.UNSAFE),)
    links = (Link("Attention mask", "https://huggingface.co/docs/transformers/glossary#attention-mask"),)
    CASES = (
        Match(
            failure=Failure.from_finding("padding", SENTENCE, FACTS),
            certainty=Certainty.CONFIRMED,
            title="2 of 4 rows .*without `attention_mask` in cell 3.*0.42",
            fixes=("add-attention-mask",),
        ),
        Match(
            failure=Failure.from_finding("padding", SENTENCE, {**FACTS, "unmasked": (), "editable": False}),
            certainty=Certainty.POSSIBLE,
            title="would",
        ),
        Match(
            failure=Failure.from_finding(
                "padding", SUSPECTED, {key: FACTS[key] for key in ("unmasked", "rows", "padded", "model", "inputs")}
            ),
            certainty=Certainty.POSSIBLE,
            title="in cell 3 passes no .* 3 of 4 rows",
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
        Reproduce(
            (
                f"{SETUP}\nother = {{'input_ids': ids[:1]}}\nlogits = model(batch['input_ids'].to('cpu')).logits; model(other['input_ids'])",
            ),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-attention-mask"),),
        ),
        Reproduce(
            (
                SETUP,
                'def predict(network, rows):\n    return network(rows["input_ids"]).logits\nlogits = predict(model, batch)',
            ),
            probe="padding model batch",
            certainty=Certainty.POSSIBLE,
            title="would",
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        if "without" not in seen:
            return self._suspected(seen)
        calls = seen["unmasked"]
        count = len(seen["changed"])
        does = (
            ("would give" if not calls else "gives" if count == 1 else "give")
            if count
            else "would come out"
            if not calls
            else "come out"
        )
        rows = f"{count} of {seen['rows']} rows {does} another answer" if count else f"Padded rows {does} differently"
        where = f" in {calls[0][0]}" if calls else ""
        cured = seen["with"] <= seen["tolerance"]
        offered: tuple[Fix, ...] = ()
        if cured:
            offered = (
                self.offer(
                    "add-attention-mask",
                    "Pass the attention mask",
                    f"Adds `attention_mask={seen['mask']}` to the call.",
                    display=not seen["editable"],
                    **{key: seen[key] for key in ("model", "inputs", "mask", "given")},
                ),
            )
        why = (
            f"`{calls[0][1]}` passes no `attention_mask`, so padding counts as text."
            if calls
            else UNSEEN.format(**seen)
        )
        if not cured:
            why += " The mask alone does not cure it here: padding on the left also moves the positions; pass `position_ids`, or pad on the right."
        return self.found(
            f"{rows} without `attention_mask`{where}: the largest difference in `{seen['output']}` is {seen['without']:.2g}",
            Certainty.CONFIRMED if calls else Certainty.POSSIBLE,
            what=f"Each row was compared with the same row alone. With the mask the largest difference is {seen['with']:.2g}.",
            why=why,
            evidence=_evidence(seen),
            fixes=offered,
        )

    def _suspected(self, seen: Mapping[str, Any]) -> Diagnosis:
        """A call that was watched, of a model too slow to be measured by itself."""
        cell, source = seen["unmasked"][0]
        return self.found(
            f"`{source}` in {cell} passes no `attention_mask`, and {seen['padded']} of {seen['rows']} rows look padded",
            Certainty.POSSIBLE,
            what="It was not measured whether the padding changes the outputs: the model takes too long to be run unasked.",
            why=f"`%tfdiag probe padding {seen['model']} {seen['inputs']}` measures it."
            if " " not in f"{seen['model']}{seen['inputs']}"
            else "Pass the mask that the tokenizer gives, or name model and inputs to `%tfdiag probe padding`.",
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        model, inputs, mask = (str(fix.parameters[key]) for key in ("model", "inputs", "mask"))
        program = Program(model, inputs, bool(fix.parameters["given"]))

        def change(source: str) -> str:
            return add_mask(source, program, mask)

        edited = edit_cells(scene, change, every=True, fails=False)
        return AddMask(edited, f"{model} {inputs}")


class AddMask(EditCells):
    """Runs the edited cells and what depends on them, watches whether the mask arrives in their calls, and measures again."""

    def __init__(self, plan: EditCells, arguments: str) -> None:
        super().__init__(plan.host, plan.edits, plan.reruns, fails=False)
        self.arguments = arguments

    def verify(self, progress: Progress) -> Verification:
        scene = Scene(self.host.namespace, live=True, cuda_dead=self.host.cuda_dead)
        try:
            model, batch = named_inputs(self.arguments, scene)
        except LookupError as error:
            return Verification(Status.NOT_CHECKED, f"The calls could not be watched: {error.args[0]}.")
        ids, mask = batch.ids.cpu(), batch.mask.cpu() != 0
        arrived: list[bool] = []

        def see(watched: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            arguments = by_name(watched, args, kwargs)
            given, passed = arguments["input_ids"].cpu(), arguments.get("attention_mask")
            if given.shape == ids.shape and bool((given == ids).all()):
                arrived.append(passed is not None and bool(((passed.cpu() != 0) == mask).all()))

        with calls_of(type(model), see):
            ran = super().verify(progress)
        if ran.status is not Status.VERIFIED:
            return ran
        if not all(arrived) or not arrived:
            told = (
                "a call on these inputs still passes no mask, or another one"
                if arrived
                else "no call on these inputs was seen"
            )
            return Verification(Status.STILL_FAILING if arrived else Status.NOT_CHECKED, f"{ran.detail} But {told}.")
        progress.report("Measuring again …")
        seen = PaddingProbe().ask(self.arguments, scene)
        if not seen:
            return Verification(Status.NOT_CHECKED, f"{ran.detail} It could not be measured again: {seen.missing}.")
        status = Status.VERIFIED if seen["with"] <= seen["tolerance"] else Status.STILL_FAILING
        told = f"the mask arrived; the largest difference to the row alone is {seen['with']:.1g}, it was {seen['without']:.2g}"
        return Verification(status, f"{ran.detail} Measured again: {told}.")


def _evidence(seen: Mapping[str, Any]) -> tuple[Observation, ...]:
    where = f"{seen['model']} on {seen['inputs']}, measured"
    changed = ", ".join(map(str, seen["changed"])) or "none"
    return (
        Observation("largest difference without the mask", f"{seen['without']:.2g}", where),
        Observation("largest difference with the mask", f"{seen['with']:.2g}", where),
        *(Observation("call without a mask", source, cell) for cell, source in seen["unmasked"]),
        Observation("rows that change their answer", changed, where),
        Observation("padding", f"{seen['padded']} of {seen['rows']} rows, on the {seen['side']}", seen["inputs"]),
    )
