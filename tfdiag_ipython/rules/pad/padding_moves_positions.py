from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.model_calls import Program, add_positions
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import LEFT, MOVED, size
from tfdiag_ipython.probes.padding_places import BOTH, PLACE, POSITIONS
from tfdiag_ipython.probes.tokenizers import TokenizersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.pad._examples import BART, DECODER, FACTS, ROBERTA, SUSPICION
from tfdiag_ipython.rules.pad._measured import (
    Measure,
    Remeasured,
    by_hand,
    cured,
    evidence_of,
    of_output,
    pad_on,
    suspected,
)
from tfdiag_ipython.watch.padding import SUSPECTED

TITLES = {
    POSITIONS: "padding on the left moves their positions",
    PLACE: "behind padding on the left, the answer is read from padding",
    BOTH: "padding on the left moves their positions",
    "": "they are padded on the left",
}
"""What is said of rows by what padding on the left does to them."""
COUNTS = "`{model_class}` counts positions from the start of the row, padding included"
REASONS = {
    POSITIONS: COUNTS + ".",
    PLACE: "`{model_class}` reads the text right, its hidden states are those of the row alone; but its answer is taken from a place "
    "that holds padding now, as a rule the row's first.",
    BOTH: COUNTS + ", and its answer is taken from a place that holds padding now, as a rule the row's first.",
    "": "What `{model_class}` answers depends on where in the row the text stands, and the mask does not change that.",
}
WRONG = {
    **FACTS,
    "cause": "positions",
    "moved": POSITIONS,
    "side": "left",
    "positions": 3e-7,
    "with": 0.4,
    "model_class": "GPT2LMHeadModel",
}
BATCH = """
tokenizer.padding_side = "left"
batch = tokenizer(["the film was good", "dull plot"], padding=True, return_tensors="pt", return_token_type_ids=False)
"""


class PaddingMovesPositions(Rule):
    """Padding on the left moves the text to later positions, and the model counts them from the row's start.

    *What it means*
    A model with absolute positions gives each token a position. Behind padding on the left the first token of the text is at
    position 3, say, instead of 0, and its answer changes with the length of the other rows. The mask does not help. Nothing is raised.

    *Why it happens*
    `generate` passes a decoder's right `position_ids` by itself; a plain call of the model does not, and the encoders of BART, Marian and
    Pegasus take none. Rotary and relative positions, and models that make positions from the mask (OPT) or skip the padding (RoBERTa), are
    not hurt; but a head that answers from the row's first place, as RoBERTa's does, reads padding there.

    *How tfdiag confirms it*
    It runs the model as given, with the mask, with `position_ids` that skip the padding, with the padding on the right, and row by row
    without any padding; it speaks where the mask does not cure the difference, and positions or the right side do. Where only the right
    side does, it compares the hidden states below the head, too, and says whether the text or only the answer is read wrong.

    *Fixes and their safety*
    `pass-position-ids` (unsafe: the outputs change, which is the point) passes positions made from the mask. `pad-on-the-right` (unsafe,
    for the same reason) sets the tokenizer's `padding_side` before the call that pads. Both run the cells again and measure the calls
    once more. `measure` (safe: nothing is changed) measures a call that was too slow to be measured unasked.

    *Example*
    `model(**batch)` with GPT-2 and `tokenizer.padding_side = "left"`

    *References*
    transformers: `generation/utils.py`, `prepare_inputs_for_generation`; the glossary's "position IDs".
    """

    code = "PAD008"
    name = "padding-moves-positions"
    kinds = ("check",)
    raised = ("padding",)
    message = re.compile("|".join(map(re.escape, (MOVED, LEFT, SUSPECTED["positions"]))))
    needs = (TokenizersProbe,)
    fixes = (
        Offer("pass-position-ids", Applicability.UNSAFE),
        Offer("pad-on-the-right", Applicability.UNSAFE),
        Offer("measure", Applicability.SAFE),
    )
    links = (Link("Position IDs", "https://huggingface.co/docs/transformers/glossary#position-ids"),)
    CASES = (
        Match(
            failure=Failure.from_finding("padding", MOVED, WRONG),
            certainty=Certainty.CONFIRMED,
            title="2 of 4 rows give another answer.*positions.*cell 3",
            fixes=("pass-position-ids", "pad-on-the-right"),
        ),
        Match(
            failure=Failure.from_finding(
                "padding", LEFT, {**WRONG, "cause": "side", "positions": None, "right": 1e-7, "changed": ()}
            ),
            title="Padded rows come out differently",
            fixes=("pad-on-the-right",),
        ),
        Match(
            failure=Failure.from_finding("padding", LEFT, {**WRONG, "cause": "side", "moved": "", "right": 1e-7}),
            title="they are padded on the left",
        ),
        Match(
            failure=Failure.from_finding("padding", SUSPECTED["positions"], {**SUSPICION, "side": "left"}),
            certainty=Certainty.POSSIBLE,
            title="3 of 4 rows .*begin with padding",
            fixes=("measure",),
        ),
        NoMatch(text=MOVED),
        NoMatch(failure=Failure.from_finding("memory", "Nothing about positions.", {})),
        Reproduce(
            (DECODER + BATCH, "logits = model(**batch).logits"),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pass-position-ids"), Try("pad-on-the-right")),
        ),
        Reproduce(
            (DECODER + BATCH, "logits = model(batch['input_ids']).logits"),
            probe="padding model batch",
            fixes=(Try("pass-position-ids"),),
        ),
        Reproduce(
            (DECODER + BART + BATCH, "hidden = model(**batch).last_hidden_state"),
            probe="padding model batch",
            title="come out differently",
            fixes=(Try("pad-on-the-right"),),
        ),
        Reproduce(
            (DECODER + ROBERTA + BATCH, "logits = model(**batch).logits"),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            title="answer is read from padding",
            fixes=(Try("pad-on-the-right"),),
        ),
        Reproduce(
            (DECODER + BATCH, "logits = model(**batch).logits"),
            finding=Failure.from_finding("padding", SUSPECTED["positions"], {**SUSPICION, "side": "left"}),
            certainty=Certainty.POSSIBLE,
            fixes=(Try("measure", Status.STILL_FAILING),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        if "tolerance" not in seen:
            cell, source = seen["unmasked"][0]
            rows = f"{seen['padded']} of {seen['rows']} rows that `{source}` in {cell} passes begin with padding"
            return suspected(self, seen, f"{rows}, which moves their positions", REASONS[POSITIONS].format(**seen))
        count = len(seen["changed"])
        rows = f"{count} of {seen['rows']} rows {'gives' if count == 1 else 'give'} another answer"
        calls = [*seen["unmasked"], *((label, "") for label in seen["masked"])]
        where = f" in {calls[0][0]}" if calls else ""
        return self.found(
            f"{rows if count else 'Padded rows come out differently'}: {TITLES[seen['moved']]}{where}",
            Certainty.CONFIRMED if calls else Certainty.LIKELY,
            what=f"Each row was compared with the same row alone: the largest difference in {of_output(seen)} is "
            f"{size(seen['asgiven'], seen)}. The mask leaves {size(seen['with'], seen)}; put right, it is {size(cured(seen), seen)}.",
            why=f"{REASONS[seen['moved']].format(**seen)} {self._cure(seen)}",
            evidence=evidence_of(seen),
            fixes=tuple(self._remedies(seen, evidence[TokenizersProbe.name].get("tokenizer") or "")),
        )

    def _cure(self, seen: Mapping[str, Any]) -> str:
        if seen["cause"] == "positions":
            return "Pass `position_ids` that skip it, or pad on the right."
        takes = "" if seen["positions"] is not None or seen["moved"] != POSITIONS else "It takes no `position_ids`: "
        lacks = abs(seen["asgiven"] - seen["with"]) > seen["tolerance"]
        return f"{takes}{'pad' if takes else 'Pad'} on the right{', and pass the mask, too' if lacks else ''}."

    def _remedies(self, seen: Mapping[str, Any], tokenizer: str) -> list[Fix]:
        told = {key: seen[key] for key in ("model", "inputs", "mask", "given", "method", "model_class")}
        told["before"] = max(seen["asgiven"], seen["without"])
        found = []
        if seen["cause"] == "positions" and seen["mask"]:
            passed = f"position_ids=({seen['mask']}.cumsum(-1) - 1).clamp(min=0)"
            found.append(
                self.offer(
                    "pass-position-ids",
                    "Pass positions that skip the padding",
                    f"Adds `{passed}` to the call." if seen["editable"] else by_hand(passed),
                    display=not seen["editable"],
                    **told,
                )
            )
        found.append(
            self.offer(
                "pad-on-the-right",
                "Pad on the right",
                f'Sets `{tokenizer or "tokenizer"}.padding_side = "right"` before the rows are padded.',
                display=not tokenizer,
                tokenizer=tokenizer,
                **told,
            )
        )
        return found

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        told = fix.parameters
        if fix.id == "measure":
            return Measure(scene, told)
        if fix.id == "pad-on-the-right":
            return pad_on("right", str(told["tokenizer"]), told, scene)
        program = Program(str(told["model"]), str(told["inputs"]), bool(told["given"]))

        def change(source: str) -> str:
            return add_positions(source, program, str(told["mask"]))

        return Remeasured(edit_cells(scene, change, every=True, fails=False), told)
