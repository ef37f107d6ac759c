from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.decoder_inputs import DECODER, DecoderInputsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule
from tfdiag_ipython.rules._places import TRANSFORMERS, own
from tfdiag_ipython.rules.trn._examples import NEEDS, TRAINER

T5 = (
    "import torch\nfrom transformers import T5Config, T5ForConditionalGeneration, T5Model\n"
    "config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)\n"
)


class DecoderWithoutInput(Rule):
    """An encoder-decoder model was called with the encoder's input alone: its decoder has nothing to read.

    *What it means*
    T5, BART and Whisper read a text (or sound) with the encoder, and write one with the decoder. A call of the model runs both, and the decoder
    needs what has been written so far; from `labels` the model makes that by itself.

    *Why it happens*
    The model was called where `generate` was meant; the data set has no labels; or only the encoder is of use.

    *How tfdiag confirms it*
    It takes the model's `forward` from the frames and looks which arguments were given.

    *Fixes and their safety*
    `give-decoder-input` is shown only: whether to write, to train or to encode is yours to say.

    *Example*
    `T5ForConditionalGeneration.from_pretrained(name)(input_ids=ids)`.

    *References*
    transformers: `models/t5/modeling_t5.py`, `T5ForConditionalGeneration.forward`.
    """

    code = "TRN009"
    name = "decoder-without-input"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"(?P<told>You (?:have to specify either|must specify exactly one of|cannot specify both) decoder_input(?:_id)?s (?:or|and) decoder_inputs_embeds)"
        r"|You (?:have to specify either|must specify exactly one of) input_ids (?:or|and) inputs_embeds"
    )
    needs = (DecoderInputsProbe,)
    fixes = (Offer("give-decoder-input", Applicability.DISPLAY_ONLY),)
    links = (Link("Generation", "https://huggingface.co/docs/transformers/llm_tutorial"),)
    CASES = (
        Match(
            text="ValueError: You have to specify either decoder_input_ids or decoder_inputs_embeds",
            certainty=Certainty.LIKELY,
            title=r"The decoder got nothing to read: call generate\(\) to write, or give labels to train",
            fixes=("give-decoder-input",),
        ),
        NoMatch(text="ValueError: You have to specify either input_ids or inputs_embeds"),
        NoMatch(text="ValueError: You have to specify either decoder or encoder"),
        Reproduce(
            (T5, "model = T5ForConditionalGeneration(config)\nout = model(input_ids=torch.tensor([[1, 2]]))"),
            title=r"`model` got input_ids, but its decoder nothing: call generate\(\) to write, or give labels to train",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (T5, "encoder = T5Model(config)\nvectors = encoder(torch.tensor([[1, 2]])).last_hidden_state"),
            title="`encoder` got input_ids, but its decoder nothing: give decoder_input_ids, or use its encoder alone",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                f"{TRAINER}{T5}model = T5ForConditionalGeneration(config)\nrows = [{{'input_ids': [1, 2]}}] * 2",
                "Trainer(model, arguments, train_dataset=rows).train()",
            ),
            title="`rows` has no labels for T5ForConditionalGeneration: its decoder gets nothing to read",
            certainty=Certainty.CONFIRMED,
            needs=NEEDS,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[DecoderInputsProbe.name]
        if not seen:
            if not hit["told"] or own(failure, TRANSFORMERS):
                return None
            title = "The decoder got nothing to read: call generate() to write, or give labels to train"
            return self._found(title, Certainty.LIKELY, seen)
        if not seen["given"] or set(seen["given"]) & set(DECODER):
            return None  # the encoder's input is what lacks, or something else
        if seen["trainer"]:
            name = f"`{seen['dataset']}`" if seen["dataset"] else "The training data set"
            title = f"{name} has no labels for {seen['model']}: its decoder gets nothing to read"
            return self._found(title, Certainty.CONFIRMED, seen)
        model, given = seen["variable"] or seen["model"], " and ".join(seen["given"])
        answer = "call generate() to write, or give labels to train"
        if not seen["trains"]:
            answer = "give decoder_input_ids, or use its encoder alone"
        return self._found(f"`{model}` got {given}, but its decoder nothing: {answer}", Certainty.CONFIRMED, seen)

    def _found(self, title: str, certainty: Certainty, seen: Evidence) -> Diagnosis:
        model = (seen["variable"] if seen else "") or "model"
        note = (
            f"To write: {model}.generate(**inputs). To train: labels=tokenizer(text_target=…).input_ids. For vectors of a text: "
            f"{model}.get_encoder()(**inputs)."
        )
        return self.found(
            title,
            certainty,
            what="A call of an encoder-decoder model runs both parts, and the decoder was given nothing.",
            why="The model makes the decoder's input from `labels`; without them it wants `decoder_input_ids`. `generate` makes them step by step.",
            evidence=seen.seen,
            fixes=(self.offer("give-decoder-input", "Give the decoder its input", note),),
        )
