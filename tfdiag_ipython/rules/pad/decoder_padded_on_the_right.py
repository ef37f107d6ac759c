from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.padding import RIGHT
from tfdiag_ipython.probes.tokenizers import TokenizersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.pad._examples import DECODER, FACTS, SUSPICION
from tfdiag_ipython.rules.pad._measured import Measure, evidence_of, pad_on, suspected
from tfdiag_ipython.watch.padding import SUSPECTED

BATCH = """
batch = tokenizer(["the film was good", "dull plot"], padding=True, return_tensors="pt", return_token_type_ids=False)
"""
ENDS = "model.generation_config.eos_token_id = 0\n"
GENERATED = {**FACTS, "cause": "generation", "method": "generate", "model_class": "GPT2LMHeadModel"}


class DecoderPaddedOnTheRight(Rule):
    """A decoder-only model generates from rows that end in padding.

    *What it means*
    Such a model goes on from the last position. With padding on the right, the shorter rows go on from padding instead of their text.

    *Why it happens*
    Tokenizers pad on the right unless `padding_side="left"` is said.

    *How tfdiag confirms it*
    The library looks at the inputs itself before it warns. `%%tfdiag`, `%tfdiag on padding` and `%tfdiag probe padding MODEL INPUTS`
    generate up to eight tokens, without sampling, from the rows as they are, padded on the left with their mask, and from each row alone; they
    compare the first token's logits and the tokens, and say nothing where they agree.

    *Fixes and their safety*
    `pad-on-the-left` (unsafe: the generated text changes, which is the point) sets the tokenizer's `padding_side` before the call that
    pads, runs the cells again, and measures once more; it is only shown where nothing was measured, or the notebook has several
    tokenizers. `measure` (safe: nothing is changed) measures a call that was too slow to be measured unasked.

    *Example*
    `model.generate(**tokenizer(["a", "a longer prompt"], padding=True, return_tensors="pt"))`

    *References*
    transformers: `generation/utils.py`, `GenerationMixin.generate`; Text generation, "common pitfalls".
    """

    code = "PAD004"
    name = "decoder-padded-on-the-right"
    kinds = ("warning", "exception", "check")
    message = re.compile(
        rf"{re.escape(RIGHT)}|{re.escape(SUSPECTED['generation'])}"
        r"|decoder-only architecture is being used, but right-padding was detected"
        r"|attempting to perform batched generation with padding_side='right'"
    )
    needs = (TokenizersProbe,)
    fixes = (Offer("pad-on-the-left", Applicability.UNSAFE, always=True), Offer("measure", Applicability.SAFE))
    links = (
        Link("Common pitfalls of generation", "https://huggingface.co/docs/transformers/llm_tutorial#common-pitfalls"),
    )
    CASES = (
        Match(
            text="A decoder-only architecture is being used, but right-padding was detected! For correct generation results, please set "
            "`padding_side='left'` when initializing the tokenizer.",
            certainty=Certainty.LIKELY,
            title="left",
            fixes=("pad-on-the-left",),
        ),
        Match(
            text="ValueError: You are attempting to perform batched generation with padding_side='right' this may lead to unexpected "
            "behaviour for Flash Attention version of Tiny.",
            title="left",
        ),
        Match(
            failure=Failure.from_finding("padding", RIGHT, GENERATED),
            certainty=Certainty.CONFIRMED,
            title="2 of 4 rows go on differently.*cell 3",
            fixes=("pad-on-the-left",),
        ),
        Match(
            failure=Failure.from_finding("padding", SUSPECTED["generation"], {**SUSPICION, "method": "generate"}),
            certainty=Certainty.POSSIBLE,
            title="3 of 4 rows",
            fixes=("measure",),
        ),
        Reproduce(
            (DECODER + BATCH, "out = model.generate(**batch, max_new_tokens=4, do_sample=False)"),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pad-on-the-left"),),
        ),
        Reproduce(  # padding ends texts, too: on the left it would be read as text without the mask
            (
                DECODER + ENDS + BATCH,
                'out = model.generate(batch["input_ids"], max_new_tokens=4, do_sample=False)',
            ),
            probe="padding model batch",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pad-on-the-left"),),
        ),
        Reproduce(
            (DECODER + BATCH, "out = model.generate(**batch, max_new_tokens=4, do_sample=False)"),
            finding=Failure.from_finding("padding", SUSPECTED["generation"], {**SUSPICION, "method": "generate"}),
            certainty=Certainty.POSSIBLE,
            fixes=(Try("measure", Status.STILL_FAILING),),
        ),
        NoMatch(text=RIGHT),
        NoMatch(text="Padding was detected but no attention mask is passed here."),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        tokenizer = evidence[TokenizersProbe.name].get("tokenizer") or ""
        if failure.kind == "check":
            return self._measured(failure.facts, tokenizer)
        if RIGHT in hit.raised.message or SUSPECTED["generation"] in hit.raised.message:
            return None
        return self.found(
            "The shorter prompts end in padding, and the model goes on from there: pad on the left",
            Certainty.LIKELY,
            what="A decoder-only model generates after the last position of each row; in the shorter rows that is padding.",
            why="Tokenizers pad on the right unless they are told otherwise.",
            fixes=(self._left(""),),
        )

    def _measured(self, seen: Mapping[str, Any], tokenizer: str) -> Diagnosis:
        cell, source = seen["unmasked"][0] if seen["unmasked"] else ("", "")
        if "tolerance" not in seen:
            rows = f"{seen['padded']} of {seen['rows']} rows end in padding"
            return suspected(self, seen, f"{rows}, from which `{source}` in {cell} goes on", "", self._left(""))
        count = len(seen["changed"])
        where = f" in {cell}" if cell else ""
        rows = f"{count} of {seen['rows']} rows go" if count > 1 else f"1 of {seen['rows']} rows goes"
        answer = f"{rows} on differently than alone" if count else "Padded rows have other scores than alone"
        return self.found(
            f"{answer}: `generate`{where} continues after padding on the right; pad on the left",
            Certainty.CONFIRMED,
            what="A decoder-only model generates after the last position of each row; in the shorter rows that is padding.",
            why="Tokenizers pad on the right unless they are told otherwise.",
            evidence=evidence_of(seen),
            fixes=(self._measured_left(seen, tokenizer),),
        )

    def _measured_left(self, seen: Mapping[str, Any], tokenizer: str) -> Fix:
        told = {key: seen[key] for key in ("model_class", "model", "inputs", "mask")}
        lost = bool(seen.get("lost") and seen["mask"])
        return self._left(tokenizer, lost=lost, before=seen["asgiven"], **told)

    def _left(self, tokenizer: str, *, lost: bool = False, **told: Any) -> Fix:
        too = " The mask is passed, too: padding and the end of a text are one token here." if lost else ""
        return self.offer(
            "pad-on-the-left",
            f'Set {tokenizer or "tokenizer"}.padding_side = "left"{" and pass the mask" if lost else ""}',
            f"Before the prompts are tokenized; then make the batch again.{too} For training, the right is fine.",
            display=not tokenizer,
            tokenizer=tokenizer,
            lost=lost,
            **told,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "measure":
            return Measure(scene, fix.parameters)
        return pad_on("left", str(fix.parameters["tokenizer"]), fix.parameters, scene)
