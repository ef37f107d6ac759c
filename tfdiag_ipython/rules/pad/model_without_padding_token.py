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

MODEL = """
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification
model = GPT2ForSequenceClassification(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1, n_positions=8, eos_token_id=1))
tokenizer.pad_token = tokenizer.eos_token
batch = tokenizer(["good film", "film"], padding=True, return_tensors="pt")
"""


class ModelWithoutPaddingToken(Rule):
    """A model needs to know which token is padding, and its configuration does not say.

    *What it means*
    The class of a row is read at its last real token. With several rows the model must know which tokens are padding to find it. An
    encoder-decoder makes the decoder's input of the labels and fills it up with that token.

    *Why it happens*
    The tokenizer was given a padding token, the model's configuration was not.

    *How tfdiag confirms it*
    It looks at the failing model: `config.pad_token_id` is `None`; and at the notebook's tokenizer for the token to use.

    *Fixes and their safety*
    `set-pad-token-id` (unsafe: it decides which token the class is read at) adds `model.config.pad_token_id = tokenizer.pad_token_id`
    before the call.

    *Example*
    `GPT2ForSequenceClassification` with a batch of two.

    *References*
    transformers: `modeling_layers.py`, `GenericForSequenceClassification.forward` (5.23).
    """

    code = "PAD003"
    name = "model-without-padding-token"
    message = re.compile(
        r"(?P<classes>Cannot handle batch sizes > 1 if no padding token is defined)"
        r"|If `eos_token_id` is defined, make sure that `pad_token_id` is defined"
        r"|`pad_token_id` should be positive but got (?P<negative>-\d+)"
        r"|(?P<outside>Padding_idx must be within num_embeddings)"
        r"|[Ss]elf\.model\.config\.pad_token_id has to be defined"
        r"|Setting `pad_token_id` to (?:`eos_token_id`:\s?(?P<end>\d+) for open-end generation|(?P<first>\d+) \(first `eos_token_id`\))"
    )
    needs = (TokenizersProbe,)
    fixes = (Offer("set-pad-token-id", Applicability.UNSAFE),)
    links = (Link("Padding and truncation", "https://huggingface.co/docs/transformers/pad_truncation"),)
    CASES = (
        Match(
            text="ValueError: Cannot handle batch sizes > 1 if no padding token is defined.",
            certainty=Certainty.LIKELY,
            title="config.pad_token_id",
        ),
        Match(
            text="Setting `pad_token_id` to `eos_token_id`:50256 for open-end generation.",
            certainty=Certainty.POSSIBLE,
            title="50256.*harmless",
        ),
        Match(text="AssertionError: Padding_idx must be within num_embeddings", title="not a row of the embedding"),
        Match(text="ValueError: `pad_token_id` should be positive but got -1.", title="-1"),
        Match(
            text="ValueError: If `eos_token_id` is defined, make sure that `pad_token_id` is defined.",
            title="pad_token_id",
        ),
        NoMatch(text="ValueError: Cannot handle batch sizes > 1 for this sampler"),
        Reproduce(
            (TOKENIZER + MODEL, "scores = model(**batch).logits"),
            title="`model.config.pad_token_id` is None",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-pad-token-id"),),
        ),
        Reproduce(  # a tokenizer is no evidence of what a model's configuration says
            (
                TOKENIZER + "import torch\nfrom transformers.models.bart.modeling_bart import shift_tokens_right",
                "shift_tokens_right(torch.tensor([[2, 3]]), None, 1)",
            ),
            certainty=Certainty.LIKELY,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["end"] or hit["first"]:
            return self.found(
                f"generate pads with the end-of-sequence token {hit['end'] or hit['first']}, since no padding token is set: harmless for one prompt",
                Certainty.POSSIBLE,
                what="Finished rows are filled up with that token; nothing is wrong unless the attention mask is missing.",
                why="Pass pad_token_id=tokenizer.eos_token_id to generate and nothing is said; with several prompts pass the mask, too.",
            )
        if hit["outside"] or hit["negative"]:
            number = f" ({hit['negative']})" if hit["negative"] else ""
            return self.found(
                f"The configuration's pad_token_id{number} is not a row of the embedding: it must be from 0 to vocab_size - 1",
                Certainty.LIKELY,
                what="The embedding is made with a row for padding, and that row's number is not among its rows.",
                why="The checkpoint says -1 for 'none', or a token was added without resizing: set `config.pad_token_id` to a token that exists.",
            )
        seen = evidence[TokenizersProbe.name]
        confirmed = bool(seen.get("has_model")) and seen["model_pad"] is None
        model, tokenizer = seen.get("model") or "", seen.get("tokenizer") or ""
        offered: tuple[Fix, ...] = ()
        if confirmed and model and tokenizer and seen["pad"]:
            statement = f"{model}.config.pad_token_id = {tokenizer}.pad_token_id"
            offered = (
                self.offer(
                    "set-pad-token-id",
                    f"Tell the model that {seen['pad']!r} is padding",
                    f"Adds `{statement}` before the call.",
                    model=model,
                    statement=statement,
                ),
            )
        return self.found(
            f"`{model or 'model'}.config.pad_token_id` is None: "
            + (
                "a batch cannot be classified until the model knows its padding token"
                if hit["classes"]
                else "set it before the call"
            ),
            Certainty.CONFIRMED if confirmed else Certainty.LIKELY,
            what="The class of a row is read at its last real token, and the model cannot tell which one that is."
            if hit["classes"]
            else "The model fills rows up with that token, in labels that it shifts or in texts that end early.",
            why="Only the tokenizer was told: set `model.config.pad_token_id = tokenizer.pad_token_id`."
            if tokenizer and seen["pad"]
            else "Set it to the token that fills rows up: the tokenizer's `pad_token_id`, if it has one.",
            evidence=seen.seen,
            fixes=offered,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        model, statement = str(fix.parameters["model"]), str(fix.parameters["statement"])
        return edit_cells(scene, lambda source: insert_before_call(source, model, statement), undoable=False)
