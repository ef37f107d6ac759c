from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import edit_calls, is_written
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_call import ModelCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own

T5 = """
import torch
from transformers import T5Config, T5ForConditionalGeneration, T5Model
torch.manual_seed(0)
config = T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
model = T5ForConditionalGeneration(config).eval()
model.generation_config.max_new_tokens = 2
batch = {"input_ids": torch.tensor([[2, 3, 4]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
"""
DECODER = ("labels", "decoder_input_ids", "decoder_inputs_embeds")
_RESULT = re.compile(r"\)\s*(?:\.\w|\[)|\.(?:logits|loss|last_hidden_state|encoder_\w+|hidden_states)\b")
"""What is done with a model's output, which `generate` does not give."""


class NothingForTheDecoder(Rule):
    """An encoder-decoder was called on the text that it reads alone, with nothing for the half of it that writes.

    *What it means*
    T5 and its kin read one text and write another. Their `forward` takes both: `labels`, from which it makes what the decoder sees, or
    `decoder_input_ids`. `generate` writes the second text token by token.

    *Why it happens*
    The model is called as an encoder would be; or the rows of the data set have no `labels`; or only vectors of the text are wanted.

    *How tfdiag confirms it*
    It reads the arguments that the outermost call of the model was given.

    *Fixes and their safety*
    `generate-instead` (unsafe: it gives token ids, no scores) calls `model.generate` with the same arguments. `give-labels` is shown only:
    the text that is to be written is not known here.

    *Example*
    `T5ForConditionalGeneration.from_pretrained("t5-small")(**tokenizer("translate: a film", return_tensors="pt"))`.

    *References*
    transformers: the page of T5, on training and inference.
    """

    code = "API006"
    name = "nothing-for-the-decoder"
    raised = ("builtins.ValueError",)
    specific = True
    message = re.compile(
        r"You (?:have to specify either|must specify exactly one of) decoder_input(?:_id)?s or decoder_inputs_embeds"
        r"|(?P<bare>You (?:must specify exactly one of|have to specify either) input_ids or inputs_embeds)"
    )
    needs = (ModelCallProbe,)
    fixes = (Offer("generate-instead", Applicability.UNSAFE), Offer("give-labels", Applicability.DISPLAY_ONLY))
    links = (Link("T5", "https://huggingface.co/docs/transformers/model_doc/t5"),)
    CASES = (
        Match(
            text="ValueError: You have to specify either decoder_input_ids or decoder_inputs_embeds",
            certainty=Certainty.LIKELY,
            title=r"The encoder-decoder was given nothing for its decoder: generate\(\) to write, labels= to train",
            fixes=("give-labels",),
        ),
        Match(
            text="ValueError: You have to specify either decoder_inputs or decoder_inputs_embeds",
            certainty=Certainty.LIKELY,
            title="nothing for its decoder",
        ),
        NoMatch(text="ValueError: You have to specify either input_ids or inputs_embeds"),
        NoMatch(text="ValueError: You have to specify either decoder or encoder"),
        Reproduce(
            (T5, "out = model(**batch)\nlogits = model(**batch, labels=batch['input_ids']).logits"),
            title=r"T5ForConditionalGeneration was given attention_mask and input_ids, and nothing for its decoder: "
            r"model\.generate\(\) to write, labels= to train",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("generate-instead"),),
        ),
        Reproduce(
            (T5, "scores = model(batch['input_ids']).logits"),
            title="T5ForConditionalGeneration was given input_ids, and nothing for its decoder",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(
            (T5 + "reader = T5Model(config).eval()", "states = reader(**batch)"),
            title=r"T5Model was given attention_mask and input_ids, and nothing for its decoder: decoder_input_ids=, or T5EncoderModel",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None  # words of the person's own
        seen = evidence[ModelCallProbe.name]
        what = "Its forward takes the text that is read and the one that is written; from `labels` it makes the second."
        if not seen:
            if hit["bare"]:
                return None  # may be the encoder's
            return self.found(
                "The encoder-decoder was given nothing for its decoder: generate() to write, labels= to train",
                Certainty.LIKELY,
                what=what,
                why="It is called as an encoder would be, or the rows have no labels.",
                fixes=(self._labels(),),
            )
        names = seen["names"]
        if not seen["encoder_decoder"] or seen["method"] or set(names) & set(DECODER):
            return None
        if not {"input_ids", "inputs_embeds", "encoder_outputs"} & set(names):
            return None
        called = str(seen["called"])
        model = str(seen["model"])
        remedy = f"{called or 'model'}.generate() to write, labels= to train"
        fixes: tuple[Fix, ...] = (self._labels(),)
        if not seen["writes"]:
            encoder = ", or T5EncoderModel for vectors of the text alone" if model == "T5Model" else ""
            remedy, fixes = f"decoder_input_ids={encoder}", ()
        elif called:
            note = f"Calls `{called}.generate` with the same arguments: it gives the ids of the text that is written, no scores."
            display = bool(_RESULT.search(failure.source)) or seen["inside"]  # a function may be there to train
            fixes = (
                self.offer("generate-instead", "Generate the text", note, display=display, call=str(seen["written"])),
                *fixes,
            )
        return self.found(
            f"{model} was given {_and(names)}, and nothing for its decoder: {remedy}",
            Certainty.CONFIRMED,
            what=what,
            why="It is called as an encoder would be, or the rows that it was given have no labels.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def _labels(self) -> Fix:
        note = "For training: the ids of the text that is to be written. `tokenizer(texts, text_target=answers)` makes both."
        return self.offer("give-labels", 'model(**batch, labels=answers["input_ids"])', note)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        import libcst as cst

        written = str(fix.parameters["call"])

        def change(call: cst.Call) -> cst.Call:
            return call.with_changes(func=cst.Attribute(call.func, cst.Name("generate")))

        return edit_cells(
            scene, lambda source: edit_calls(source, lambda call: is_written(call, written), change), apart=True
        )


def _and(names: tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
