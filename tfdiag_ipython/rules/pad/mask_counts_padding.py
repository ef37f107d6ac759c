from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.model_calls import Program, replace_mask
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import CONTRADICTED, size
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.pad._examples import FACTS, SETUP, SUSPICION
from tfdiag_ipython.rules.pad._measured import Measure, Remeasured, by_hand, evidence_of, of_output, suspected
from tfdiag_ipython.watch.padding import SUSPECTED

WRONG = {**FACTS, "cause": "contradicted", "mask": "(ids != 0).long()", "inputs": "ids"}
WRONG["unmasked"] = (("cell 3", "model(ids, attention_mask=torch.ones_like(ids))"),)


class MaskCountsPadding(Rule):
    """The attention mask that the call passes counts padding as text.

    *What it means*
    The mask has a 1 where the ids hold the padding token: the model reads padding as if no mask were there. Nothing is raised.

    *Why it happens*
    The mask was made with `torch.ones_like(ids)`, belongs to another batch, or was made before the rows were padded or moved.

    *How tfdiag confirms it*
    `%%tfdiag`, `%tfdiag on padding` and `%tfdiag probe padding MODEL INPUTS` compare the mask with the padding token at the rows' edges,
    and run the model with this mask, with the one that the padding asks for, and row by row without padding. It speaks only where the
    rows differ from themselves alone by more than rounding, and the other mask cures it. Where padding and end of text are one token, a
    single one of it counts as text.

    *Fixes and their safety*
    `replace-mask` (unsafe: the outputs change, which is the point) puts the right mask into the calls that pass one by name; it is
    verified by measuring these calls again. `measure` (safe: nothing is changed) measures a call that was too slow to be measured unasked.

    *Example*
    `model(ids, attention_mask=torch.ones_like(ids))` → `model(ids, attention_mask=(ids != 0).long())`

    *References*
    transformers: the glossary's "attention mask"; `masking_utils.py`.
    """

    code = "PAD007"
    name = "mask-counts-padding"
    kinds = ("check",)
    raised = ("padding",)
    message = re.compile(f"{re.escape(CONTRADICTED)}|{re.escape(SUSPECTED['contradicted'])}")
    fixes = (Offer("replace-mask", Applicability.UNSAFE), Offer("measure", Applicability.SAFE))
    links = (Link("Attention mask", "https://huggingface.co/docs/transformers/glossary#attention-mask"),)
    CASES = (
        Match(
            failure=Failure.from_finding("padding", CONTRADICTED, WRONG),
            certainty=Certainty.CONFIRMED,
            title="2 of 4 rows give another answer: the attention mask in cell 3 counts padding as text",
            fixes=("replace-mask",),
        ),
        Match(
            failure=Failure.from_finding("padding", SUSPECTED["contradicted"], SUSPICION),
            certainty=Certainty.POSSIBLE,
            title="mask .* counts padding",
            fixes=("measure",),
        ),
        NoMatch(text=CONTRADICTED),
        NoMatch(failure=Failure.from_finding("memory", "Nothing about masks.", {})),
        Reproduce(
            (
                SETUP + "\nbatch['attention_mask'] = torch.ones_like(ids)",
                'logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits',
            ),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("replace-mask"),),
        ),
        Reproduce(
            (SETUP, "logits = model(ids, attention_mask=torch.ones_like(ids)).logits"),
            finding=Failure.from_finding("padding", SUSPECTED["contradicted"], {**SUSPICION, "inputs": "ids"}),
            certainty=Certainty.POSSIBLE,
            fixes=(Try("measure", Status.STILL_FAILING),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        cell, source = seen["unmasked"][0] if seen["unmasked"] else ("", "")
        if "tolerance" not in seen:
            rows = f"{seen['padded']} of {seen['rows']} rows"
            return suspected(self, seen, f"The attention mask of `{source}` in {cell} counts padding as text in {rows}")
        count = len(seen["changed"])
        rows = f"{count} of {seen['rows']} rows {'gives' if count == 1 else 'give'} another answer"
        mask = f" in {cell}" if cell else f" in `{seen['inputs']}`"
        passed = f"attention_mask={seen['mask']}"
        told = f"Sets `{passed}` in the call." if seen["editable"] else by_hand(passed)
        replace = self.offer(
            "replace-mask",
            "Pass the mask that the padding asks for",
            told if seen["mask"] else "Use the tokenizer's own mask.",
            display=not seen["editable"] or not seen["mask"],
            before=seen["asgiven"],
            **{key: seen[key] for key in ("model", "inputs", "mask", "given", "method", "model_class")},
        )
        return self.found(
            f"{rows if count else 'Padded rows come out differently'}: the attention mask{mask} counts padding as text",
            Certainty.CONFIRMED,
            what=f"Each row was compared with the same row alone: the largest difference in {of_output(seen)} is "
            f"{seen['asgiven']:.2g}, and {size(seen['with'], seen)} with the mask that the padding asks for.",
            why="The mask has a 1 at padding tokens: it was made for other ids, or filled with ones.",
            evidence=evidence_of(seen),
            fixes=(replace,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        told = fix.parameters
        if fix.id == "measure":
            return Measure(scene, fix.parameters)
        program = Program(str(told["model"]), str(told["inputs"]), bool(told["given"]))

        def change(source: str) -> str:
            return replace_mask(source, program, str(told["mask"]))

        return Remeasured(edit_cells(scene, change, every=True, fails=False), told)
