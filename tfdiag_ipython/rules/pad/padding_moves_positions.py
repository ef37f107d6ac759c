from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.model_calls import Program, add_positions
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import MOVED, size
from tfdiag_ipython.probes.tokenizers import TokenizersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.pad._examples import DECODER, FACTS
from tfdiag_ipython.rules.pad._measured import Remeasured, cured, evidence_of, pad_on

WRONG = {
    **FACTS,
    "cause": "positions",
    "side": "left",
    "positions": 3e-7,
    "with": 0.4,
    "model_class": "GPT2LMHeadModel",
}
LEFT = """
tokenizer.padding_side = "left"
batch = tokenizer(["the film was good", "dull plot"], padding=True, return_tensors="pt", return_token_type_ids=False)
"""
BART = """
from transformers import BartConfig, BartModel
torch.manual_seed(0)
tiny = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32)
model = BartModel(BartConfig(vocab_size=10, d_model=16, pad_token_id=0, init_std=0.5, max_position_embeddings=32, **tiny)).eval()
"""


class PaddingMovesPositions(Rule):
    """Padding on the left moves the text to later positions, and the model counts them from the row's start.

    *What it means*
    A model with learned absolute positions gives each token a position. Behind padding on the left the first token of the text is at
    position 3, say, instead of 0, and its answer changes with the length of the other rows. The mask does not help. Nothing is raised.

    *Why it happens*
    `generate` passes the right `position_ids` by itself; a plain call of the model does not. Rotary and relative positions, and models
    that make positions from the mask (OPT), are not hurt.

    *How tfdiag confirms it*
    It runs the model as given, with the mask, with `position_ids` that skip the padding, with the padding on the right, and row by row
    without any padding; it speaks where the mask does not cure the difference, and positions do.

    *Fixes and their safety*
    `pass-position-ids` (unsafe: the outputs change, which is the point) passes positions made from the mask. `pad-on-the-right` (unsafe,
    for the same reason) sets the tokenizer's `padding_side` before the call that pads. Both run the cells again and measure the calls
    once more.

    *Example*
    `model(**batch)` with GPT-2 and `tokenizer.padding_side = "left"`

    *References*
    transformers: `generation/utils.py`, `prepare_inputs_for_generation`; the glossary's "position IDs".
    """

    code = "PAD008"
    name = "padding-moves-positions"
    kinds = ("check",)
    raised = ("padding",)
    message = re.compile(re.escape(MOVED))
    needs = (TokenizersProbe,)
    fixes = (Offer("pass-position-ids", Applicability.UNSAFE), Offer("pad-on-the-right", Applicability.UNSAFE))
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
                "padding", MOVED, {**WRONG, "cause": "side", "positions": None, "right": 1e-7, "changed": ()}
            ),
            title="Padded rows come out differently",
            fixes=("pad-on-the-right",),
        ),
        NoMatch(text=MOVED),
        NoMatch(failure=Failure.from_finding("memory", "Nothing about positions.", {})),
        Reproduce(
            (DECODER + LEFT, "logits = model(**batch).logits"),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pass-position-ids"), Try("pad-on-the-right")),
        ),
        Reproduce(
            (DECODER + LEFT, "logits = model(batch['input_ids']).logits"),
            probe="padding model batch",
            fixes=(Try("pass-position-ids"),),
        ),
        Reproduce(
            (DECODER + BART + LEFT, "hidden = model(**batch).last_hidden_state"),
            probe="padding model batch",
            title="come out differently",
            fixes=(Try("pad-on-the-right"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        if not seen:
            return None
        count = len(seen["changed"])
        rows = f"{count} of {seen['rows']} rows {'gives' if count == 1 else 'give'} another answer"
        calls = [*seen["unmasked"], *((label, "") for label in seen["masked"])]
        where = f" in {calls[0][0]}" if calls else ""
        return self.found(
            f"{rows if count else 'Padded rows come out differently'}: padding on the left moves their positions{where}",
            Certainty.CONFIRMED if calls else Certainty.LIKELY,
            what=f"Each row was compared with the same row alone: the largest difference in `{seen['output']}` is "
            f"{size(seen['asgiven'], seen)}. The mask leaves {size(seen['with'], seen)}; put right, it is {size(cured(seen), seen)}.",
            why=f"`{seen['model_class']}` counts positions from the start of the row, padding included. "
            + (
                "Pass `position_ids` that skip it, or pad on the right."
                if seen["cause"] == "positions"
                else "It takes no `position_ids`: pad on the right."
                if seen["positions"] is None
                else "Positions alone do not cure it, for the first place of the row is read, which is padding: pad on the right."
            ),
            evidence=evidence_of(seen),
            fixes=tuple(self._remedies(seen, evidence[TokenizersProbe.name].get("tokenizer") or "")),
        )

    def _remedies(self, seen: Mapping[str, Any], tokenizer: str) -> list[Fix]:
        told = {key: seen[key] for key in ("model", "inputs", "mask", "given", "method", "model_class")}
        told["before"] = max(seen["asgiven"], seen["without"])
        found = []
        if seen["cause"] == "positions" and seen["mask"]:
            found.append(
                self.offer(
                    "pass-position-ids",
                    "Pass positions that skip the padding",
                    f"Adds `position_ids=({seen['mask']}.cumsum(-1) - 1).clamp(min=0)` to the call.",
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
        if fix.id == "pad-on-the-right":
            return pad_on("right", str(told["tokenizer"]), told, scene)
        program = Program(str(told["model"]), str(told["inputs"]), bool(told["given"]))

        def change(source: str) -> str:
            return add_positions(source, program, str(told["mask"]))

        return Remeasured(edit_cells(scene, change, every=True, fails=False), told)
