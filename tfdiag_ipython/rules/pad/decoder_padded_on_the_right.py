from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Rule


class DecoderPaddedOnTheRight(Rule):
    """A decoder-only model generates from rows that end in padding.

    *What it means*
    Such a model goes on from the last position. With padding on the right, the shorter rows go on from padding instead of their text.

    *Why it happens*
    Tokenizers pad on the right unless `padding_side="left"` is said.

    *How tfdiag confirms it*
    The library looked at the inputs itself before it warned. tfdiag does not look again.

    *Fixes and their safety*
    `pad-on-the-left` is only shown: the tokenizer call may stand anywhere, and all batches must be made again.

    *Example*
    `model.generate(**tokenizer(["a", "a longer prompt"], padding=True, return_tensors="pt"))`

    *References*
    transformers: `generation/utils.py`, `GenerationMixin.generate`; Text generation, "common pitfalls".
    """

    code = "PAD004"
    name = "decoder-padded-on-the-right"
    kinds = ("warning", "exception")
    message = re.compile(
        r"decoder-only architecture is being used, but right-padding was detected"
        r"|attempting to perform batched generation with padding_side='right'"
    )
    fixes = (Offer("pad-on-the-left", Applicability.DISPLAY_ONLY, always=True),)
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
        NoMatch(text="Padding was detected but no attention mask is passed here."),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found(
            "The shorter prompts end in padding, and the model goes on from there: pad on the left",
            Certainty.LIKELY,
            what="A decoder-only model generates after the last position of each row; in the shorter rows that is padding.",
            why="Tokenizers pad on the right unless they are told otherwise.",
            fixes=(
                self.offer(
                    "pad-on-the-left",
                    'Set tokenizer.padding_side = "left"',
                    "Before the prompts are tokenized; then make the batch again. For training, the right is fine.",
                ),
            ),
        )
