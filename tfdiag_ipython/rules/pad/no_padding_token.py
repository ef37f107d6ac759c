from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.statements import insert_before_call
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.tokenizers import TokenizersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.pad._examples import TOKENIZER

DECODER = """
from transformers import GPT2Config, GPT2LMHeadModel
model = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_embd=8, n_layer=1, n_head=1, n_positions=8, bos_token_id=1, eos_token_id=1))
"""
ADDED = """{tokenizer}.add_special_tokens({{"pad_token": "[PAD]"}})
{model}.resize_token_embeddings(len({tokenizer}))
{model}.config.pad_token_id = {tokenizer}.pad_token_id
"""


class NoPaddingToken(Rule):
    """The tokenizer is asked to pad, and has no token to pad with.

    *What it means*
    Rows of different length become one tensor by filling the shorter ones up with the padding token; this tokenizer has none.

    *Why it happens*
    GPT-2, Llama and most other decoders were trained without padding.

    *How tfdiag confirms it*
    It looks at the tokenizer of the failing call: its `pad_token` is `None`; it says whether there is an end-of-sequence token to use.

    *Fixes and their safety*
    `pad-with-eos` (unsafe: the end of a text and padding look the same then, so the attention mask must be passed) adds
    `tokenizer.pad_token = tokenizer.eos_token` before the call. `add-padding-token` (unsafe: the model grows by a row) adds a token of its
    own, resizes the model's embedding for it and tells the model's configuration, where the notebook has one tokenizer and one model.

    *Example*
    `GPT2Tokenizer.from_pretrained("gpt2")(["one", "two words"], padding=True)`

    *References*
    transformers: Padding and truncation; `PreTrainedTokenizerBase.pad`.
    """

    code = "PAD002"
    name = "no-padding-token"
    kinds = ("exception", "warning")
    message = re.compile(
        r"Asking to pad but the tokenizer does not have a padding token"
        r"|tokenizer without pad_token cannot do batching"
        r"|Unable to set proper padding strategy as the tokenizer does not have a padding token"
        r"|attempting to pad samples but the tokenizer you are using \([\w.]+\) does not have one"
        r"|Using pad_token, but it is not set yet"
    )
    needs = (TokenizersProbe,)
    fixes = (Offer("pad-with-eos", Applicability.UNSAFE), Offer("add-padding-token", Applicability.UNSAFE))
    links = (Link("Padding and truncation", "https://huggingface.co/docs/transformers/pad_truncation"),)
    CASES = (
        Match(
            text="ValueError: Asking to pad but the tokenizer does not have a padding token. Please select a token to use as `pad_token`.",
            certainty=Certainty.LIKELY,
            title="no padding token",
        ),
        Match(
            text="ValueError: Pipeline with tokenizer without pad_token cannot do batching. You can try to set it with "
            "`pipe.tokenizer.pad_token_id = model.config.eos_token_id`.",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text="ValueError: You are attempting to pad samples but the tokenizer you are using (TinyTokenizer) does not have one.",
            title="no padding token",
        ),
        NoMatch(text="ValueError: Asking to return token_type_ids while setting add_special_tokens to False"),
        Reproduce(
            (TOKENIZER, "batch = tokenizer(['good film', 'film'], padding=True)"),
            title="`tokenizer` has no padding token",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pad-with-eos"),),
        ),
        Reproduce(
            (
                TOKENIZER + DECODER,
                'batch = tokenizer(["good film", "film"], padding=True, return_tensors="pt")\n'
                'scores = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits',
            ),
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-padding-token"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[TokenizersProbe.name]
        confirmed = bool(seen.seen) and seen["pad"] is None
        name = seen.get("tokenizer") or ""
        offered: tuple[Fix, ...] = ()
        if confirmed and name and seen["eos"]:
            statement = f"{name}.pad_token = {name}.eos_token"
            offered = (
                self.offer(
                    "pad-with-eos",
                    f"Pad with its end-of-sequence token {seen['eos']!r}",
                    f"Adds `{statement}`; pass the attention mask to the model, or padding and end look the same.",
                    tokenizer=name,
                    statement=statement,
                ),
            )
        model = seen.get("model") or ""
        if confirmed and name and model:
            offered += (
                self.offer(
                    "add-padding-token",
                    "Add a padding token of its own",
                    f"Adds `[PAD]` to `{name}`, and a row for it to the embedding of `{model}`.",
                    tokenizer=name,
                    statement=ADDED.format(tokenizer=name, model=model),
                ),
            )
        subject = f"`{name}`" if name else "The tokenizer"
        return self.found(
            f"{subject} has no padding token, and padding was asked for: set one before the call",
            Certainty.CONFIRMED if confirmed else Certainty.LIKELY,
            what="Rows of different length cannot be made one tensor without a padding token.",
            why="Most decoders were trained without padding. `tokenizer.pad_token = tokenizer.eos_token` is the usual choice.",
            evidence=seen.seen,
            fixes=offered,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        name, statement = str(fix.parameters["tokenizer"]), str(fix.parameters["statement"])
        return edit_cells(scene, lambda source: insert_before_call(source, name, statement), undoable=False)
