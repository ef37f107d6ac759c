from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Rule


class MaskNotPassed(Rule):
    """The library warns that it was given no attention mask.

    *What it means*
    Without the mask the library must guess which tokens are padding. Where the padding token is also the end-of-sequence token it cannot, and
    the output may really differ.

    *Why it happens*
    `generate` or the model was called with `input_ids` alone.

    *How tfdiag confirms it*
    It does not by itself: `%tfdiag probe padding MODEL INPUTS` measures whether the output changes.

    *Fixes and their safety*
    `pass-the-mask` is only shown here; the probe offers the edit once it has measured a difference.

    *Example*
    `model.generate(batch["input_ids"])` with `tokenizer.pad_token = tokenizer.eos_token`.

    *References*
    transformers: `generation/utils.py`, `_prepare_attention_mask_for_generation`; `modeling_utils.py`,
    `warn_if_padding_and_no_attention_mask`.
    """

    code = "PAD005"
    name = "mask-not-passed"
    kinds = ("warning", "exception")
    message = re.compile(
        r"attention mask and the pad token id were not set"
        r"|attention mask is not set(?: with a batched input,)? and cannot be inferred from input"
        r"|strongly recommend passing in an `attention_mask` since your input_ids may be padded"
    )
    fixes = (Offer("pass-the-mask", Applicability.DISPLAY_ONLY, always=True),)
    links = (Link("Attention mask", "https://huggingface.co/docs/transformers/glossary#attention-mask"),)
    CASES = (
        Match(
            text="The attention mask is not set and cannot be inferred from input because pad token is same as eos token.",
            certainty=Certainty.LIKELY,
            title="attention mask",
            fixes=("pass-the-mask",),
        ),
        Match(
            text="The attention mask is not set with a batched input, and cannot be inferred from input because pad token is same as eos "
            "token. As a consequence, you may observe unexpected behavior.",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text="The attention mask and the pad token id were not set. As a consequence, you may observe unexpected behavior.",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text="We strongly recommend passing in an `attention_mask` since your input_ids may be padded.",
            certainty=Certainty.LIKELY,
        ),
        NoMatch(text="ValueError: The attention mask should be of shape (2, 4), but is (2, 5)"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found(
            "The call passes no attention mask: padding may be read as text; pass it, or measure with `%tfdiag probe padding MODEL INPUTS`",
            Certainty.LIKELY,
            what="The model was called with `input_ids` alone.",
            why="The tokenizer gives the mask beside the ids; it got lost on the way to the call.",
            fixes=(
                self.offer(
                    "pass-the-mask",
                    'Pass attention_mask=batch["attention_mask"], or the whole batch as **batch',
                    "Where padding and end-of-sequence are the same token, the library cannot infer it.",
                ),
            ),
        )
