from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, set_arguments
from tfdiag_ipython.fixes.statements import insert_after_assignment
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.probes.special_tokens import SpecialTokensProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._special_examples import BART, COMPOSED, SEEN, T5
from tfdiag_ipython.rules.idx._words import bad_special_token

if TYPE_CHECKING:
    import libcst as cst

START, PAD = "decoder_start_token_id", "pad_token_id"
ROLES = {START: "the decoder begins with it", PAD: "rows, and labels that the decoder reads, are filled up with it"}


class SpecialTokenNotInVocabulary(Rule):
    """The model's configuration names no token, or one that does not exist, to begin the decoder's input or to fill rows up.

    *What it means*
    An encoder-decoder makes the decoder's input of the labels: it puts `decoder_start_token_id` in front and `pad_token_id` in the place of
    -100. `generate` does the same with what it has written. `None` cannot stand in a tensor, and -1 is no row of the embedding.

    *Why it happens*
    A model put together of two (`EncoderDecoderModel`, `VisionEncoderDecoderModel`) has neither until it is told; a configuration made by
    hand says `None` or -1 for "none"; the vocabulary is smaller than the one that the number comes from.

    *How tfdiag confirms it*
    It reads the ids in the failing model's configuration, and where an embedding failed compares them with the id that is out of range.

    *Fixes and their safety*
    `set-token-id` (unsafe: it decides what the decoder learns to begin with) corrects the argument of the configuration, or sets the id
    where the model is made: to the tokenizer's token, or as this kind of model has it by default (T5 begins with the padding, BART with the
    end of the sentence).

    *Example*
    `T5Config(decoder_start_token_id=-1)`, or `VisionEncoderDecoderModel` without `model.config.decoder_start_token_id`.

    *References*
    transformers: `shift_tokens_right` and `_shift_right` in the models; `GenerationConfig`; the pages of Encoder Decoder Models.
    """

    code = "IDX009"
    name = "special-token-not-in-vocabulary"
    raised = ("builtins.IndexError", "builtins.TypeError", "builtins.ValueError", "builtins.AttributeError")
    specific = True  # asks for the id in the configuration
    message = re.compile(
        r"index out of range in self|tfdiag\.guard stopped embedding(?!_)"
        r"|(?P<none>can't assign a NoneType to a torch\.(?:cuda\.)?LongTensor)"
        r"|config\.(?P<defined>decoder_start_token_id) has to be defined"
        r"|Make sure to set the (?P<attribute>decoder_start_token_id|pad_token_id) attribute of the model's configuration"
        r"|`(?P<generate>decoder_start_token_id)`(?: or `bos_token_id`)? has to be defined for encoder-decoder generation"
        r"|EncoderDecoderConfig' object has no attribute '(?P<missing>decoder_start_token_id|pad_token_id)'"
    )
    needs = (SpecialTokensProbe, IndexTensorsProbe)
    fixes = (Offer("set-token-id", Applicability.UNSAFE),)
    links = (Link("Encoder decoder models", "https://huggingface.co/docs/transformers/model_doc/encoder-decoder"),)
    CASES = (
        Match(
            text="ValueError: Make sure to set the decoder_start_token_id attribute of the model's configuration.",
            certainty=Certainty.LIKELY,
            title=r"decoder_start_token_id` is not set: the decoder begins with it",
        ),
        Match(
            text="ValueError: self.model.config.decoder_start_token_id has to be defined. In T5 it is usually set to the pad_token_id.",
            title="decoder_start_token_id` is not set",
        ),
        Match(
            text="ValueError: `decoder_start_token_id` or `bos_token_id` has to be defined for encoder-decoder generation.",
            title="decoder_start_token_id` is not set",
        ),
        Match(
            text="AttributeError: 'VisionEncoderDecoderConfig' object has no attribute 'pad_token_id'",
            title="pad_token_id` is not set",
        ),
        Match(
            text="IndexError: index out of range in self",
            evidence=SEEN,
            certainty=Certainty.CONFIRMED,
            title=r"`model.config.decoder_start_token_id` is -1, and `shared` has 40 rows",
            fixes=("set-token-id",),
        ),
        NoMatch(text="TypeError: can't assign a NoneType to a torch.LongTensor"),
        NoMatch(text="IndexError: index out of range in self", code="IDX001"),
        NoMatch(text="ValueError: `max_length` has to be defined for encoder-decoder generation."),
        Reproduce(
            (BART, "loss = make(decoder_start_token_id=None)(ids, labels=ids).loss"),
            title="decoder_start_token_id` is None: the decoder begins with it",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (BART, "model = make(decoder_start_token_id=None)", "loss = model(ids, labels=ids).loss"),
            title="`model.config.decoder_start_token_id` is None",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-token-id"),),
        ),
        Reproduce(
            (
                T5,
                "model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=-1, **small))",
                "model(ids, labels=ids)",
            ),
            title="`model.config.decoder_start_token_id` is -1, and .* has 40 rows",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-token-id"),),
        ),
        Reproduce(
            (
                T5,
                "model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, pad_token_id=-1, **small))",
                "model(ids, labels=ids.masked_fill(ids == 9, -100))",
            ),
            title="`model.config.pad_token_id` is -1",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-token-id"),),
        ),
        Reproduce(
            (
                T5,
                "model = T5ForConditionalGeneration(T5Config(**small))",
                "text = model.generate(ids, max_new_tokens=2)",
            ),
            title="`model.generation_config.decoder_start_token_id` is None",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-token-id"),),
        ),
        Reproduce(
            (
                COMPOSED,
                "model = EncoderDecoderModel(encoder=encoder, decoder=decoder)",
                "loss = model(input_ids=ids, labels=ids).loss",
            ),
            title="`model.config.decoder_start_token_id` is None",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-token-id"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, tensors = evidence[SpecialTokensProbe.name], evidence[IndexTensorsProbe.name]
        name = next((hit[group] for group in ("defined", "attribute", "generate", "missing") if hit[group]), "")
        if hit["none"]:
            shifts = any(frame.function == "shift_tokens_right" for frame in hit.raised.frames)
            name = START if shifts else ""
        rows = ""
        if not name:
            name = bad_special_token(tensors, seen)
            module = f"`{tensors.get('module')}`" if tensors.get("module") else "the embedding"
            rows = f", and {module} has {tensors.get('limit', 0):,} rows"
        if not name:
            return None
        holder = "generation_config" if hit["generate"] or (seen.get("generation") and rows) else "config"
        value = (seen.get("generation" if holder == "generation_config" else "config") or {}).get(name)
        told = f"is {value}" if seen else "is not set"
        return self.found(
            f"`{seen.get('model') or 'model'}.{holder}.{name}` {told}{rows}: {ROLES[name]}",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="The labels become the decoder's input: one token is put in front, and -100 is replaced."
            if seen.get("decodes", True)
            else "Rows that end early are filled up with that token.",
            why=_why(value, seen),
            evidence=seen.seen,
            fixes=self._remedy(name, holder, seen, bool(rows)),
        )

    def _remedy(self, name: str, holder: str, seen: Evidence, looked_up: bool) -> tuple[Fix, ...]:
        if not seen:
            return ()
        if not seen["decodes"] and looked_up and not seen["generation"]:
            return ()  # the ids that were given hold it: the configuration alone helps nothing
        wanted = [name]
        if seen["model_type"].endswith("encoder-decoder"):  # such a model lacks both at first
            wanted += [
                other for other in (START, PAD) if other != name and not _exists(seen["config"].get(other), seen)
            ]
        found = {one: next(_candidates(one, holder, seen), None) for one in wanted}
        settings = [(one, *value) for one, value in found.items() if value is not None]
        model = seen["model"]
        if not settings or settings[0][0] != name:
            told = f"Set `model.config.{name}` to a token that exists, where the model is made."
            return (self.offer("set-token-id", f"Give the model a {name}", told, display=True),)
        holders = [f"{model}.config"] + [f"{model}.generation_config"] * bool(seen["generation"])
        lines = [f"{' = '.join(f'{one}.{key}' for one in holders)} = {value}" for key, value, _ in settings]
        return (
            self.offer(
                "set-token-id",
                f"Set {' and '.join(key for key, *_ in settings)}",
                f"Where the model or its configuration is made: `{'; '.join(lines)}`.",
                display=not model.isidentifier(),
                model=model,
                statement="\n".join(lines),
                numbers={key: number for key, _, number in settings},
            ),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        told = fix.parameters
        numbers = {key: str(number) for key, number in told["numbers"].items()}

        def change(source: str) -> str:
            changed = source
            for name, number in numbers.items():
                changed = set_arguments(changed, partial(_configures, name=name), {name: number})
            return (
                changed
                if changed != source
                else insert_after_assignment(source, str(told["model"]), str(told["statement"]))
            )

        return edit_cells(scene, change)


def _configures(call: cst.Call, *, name: str) -> bool:
    """A call that makes a configuration or loads a model, with this argument."""
    makes = re.search(r"Config$|\.from_pretrained$", dotted(call.func))
    return bool(makes) and any(arg.keyword is not None and arg.keyword.value == name for arg in call.args)


def _why(value: int | None, seen: Evidence) -> str:
    if value is not None and value >= 0:
        return "The number comes from a larger vocabulary than this model has."
    if value is not None:
        return "A negative number stands for 'none', which an embedding does not know."
    if not seen or seen["model_type"].endswith("encoder-decoder"):
        return "A model put together of two parts does not know its tokens until it is told."
    return "The configuration was made without it; a checkpoint's own configuration mostly has it."


def _exists(value: Any, seen: Evidence) -> bool:
    return isinstance(value, int) and value >= 0 and (not seen["rows"] or value < seen["rows"])


def _candidates(name: str, holder: str, seen: Evidence) -> Iterator[tuple[str, int]]:
    """Tokens that exist and can stand there, the likeliest first: as an expression and as a number."""
    model, tokenizer, config, defaults = seen["model"], seen["tokenizer"], seen["config"], seen["defaults"]
    composed, kind = seen["model_type"].endswith("encoder-decoder"), seen["model_type"]
    options: list[tuple[str, Any]] = []
    if holder == "generation_config":  # generate was not told what the model knows
        options.append((f"{model}.config.{name}", config.get(name)))
    if name == START:
        own = [
            one for one in ("pad_token_id", "eos_token_id", "bos_token_id") if defaults.get(one) == defaults.get(START)
        ]
        own = own if defaults.get(START) is not None else ["pad_token_id"] * ("t5" in kind or kind.startswith("switch"))
        options += [(f"{model}.config.{one}", config.get(one)) for one in own]
        if composed or not own:
            options += [(f"{tokenizer}.{one}", seen["tokens"].get(one)) for one in ("cls_token_id", "bos_token_id")]
    else:
        options += [(f"{tokenizer}.{name}", seen["tokens"].get(name)), (str(defaults.get(name)), defaults.get(name))]
        options.append((f"{model}.config.eos_token_id", config.get("eos_token_id")))
    yield from ((told, value) for told, value in options if _exists(value, seen))
