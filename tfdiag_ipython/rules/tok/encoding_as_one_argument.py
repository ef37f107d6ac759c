from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import edit_calls, is_written
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_call import ModelCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tok._examples import BERT, DISTILBERT, GPT2, MODELING

if TYPE_CHECKING:
    import libcst as cst

BATCH = "batch = tokenizer(['the film', 'a film'], return_tensors='pt')\n"
GETATTR = (
    '  File "/opt/py/site-packages/transformers/tokenization_utils_base.py", line 268, in __getattr__\n'
    "    raise AttributeError\n"
)
MODEL_CODE = re.compile(r"transformers[/\\](?:models[/\\]|generation[/\\]utils|modeling_)")


class EncodingAsOneArgument(Rule):
    """A tokenizer's whole output was given to a model as one argument.

    *What it means*
    A tokenizer returns a dictionary of tensors; a model takes them one by one. Given as the first argument, the dictionary itself is taken
    for the token ids, and it has no shape.

    *Why it happens*
    The two asterisks of `model(**batch)` are missing. The batch then raises an `AttributeError` without a word.

    *How tfdiag confirms it*
    It reads what the outermost call of the model was given, in the frame that took it.

    *Fixes and their safety*
    `spread-encoding` (safe: what the call was to mean) writes `model(**batch)` where the model takes all that the batch holds.

    *Example*
    `model(tokenizer("a film", return_tensors="pt"))`.

    *References*
    transformers: `tokenization_utils_base.py`, `BatchEncoding.__getattr__`.
    """

    code = "TOK003"
    name = "encoding-as-one-argument"
    raised = ("builtins.AttributeError", "builtins.TypeError", "builtins.KeyError")
    specific = True
    message = re.compile(
        r"\A\s*\Z"  # of a batch's `__getattr__`
        r"|'(?:BatchEncoding|BatchFeature|dict)' object has no attribute"
        r"|must be Tensor, not (?:BatchEncoding|BatchFeature|dict)"
        r"|list indices must be integers or slices, not tuple|unhashable type: 'slice'"
        r"|Invalid key\. Only three types of key are available"
        r"|\A'(?:size|shape)'\Z"
    )
    needs = (ModelCallProbe,)
    fixes = (Offer("spread-encoding", Applicability.SAFE),)
    links = (Link("Preprocessing text", "https://huggingface.co/docs/transformers/preprocessing"),)
    CASES = (
        Match(
            text=MODELING.format(written="words", line="input_shape = input_ids.size()") + GETATTR + "AttributeError",
            certainty=Certainty.LIKELY,
            title=r"The tokenizer's whole output was given as the token ids: write model\(\*\*batch\)",
        ),
        NoMatch(text="AttributeError"),
        NoMatch(text="KeyError: 'size'"),
        NoMatch(text='  File "shop.py", line 3, in <module>\n    prices.size\n' + GETATTR + "AttributeError"),
        Reproduce(
            (BERT + BATCH, "scores = model(batch).logits  # of both"),
            title=r"`batch` is the tokenizer's whole output, given as the token ids: write `model\(\*\*batch\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("spread-encoding"),),
        ),
        Reproduce(  # spread as well, the mask would come twice
            (BERT + BATCH, "scores = model(batch, attention_mask=batch['attention_mask'])"),
            title="`batch` is the tokenizer's whole output",
            bare=True,
        ),
        Reproduce(
            (BERT + "batch = tokenizer(['the film'])", "scores = model(batch)"),
            title="`batch` is the tokenizer's whole output",
            bare=True,
        ),
        Reproduce(  # other calls stay as they are
            (BERT + BATCH, "scores = model(batch)\nfirst = model(batch['input_ids'])"),
            title=r"write `model\(\*\*batch\)`",
            fixes=(Try("spread-encoding"),),
        ),
        Reproduce(
            (GPT2 + BATCH, "tokens = model.generate(inputs=batch, max_new_tokens=1)"),
            title=r"write `model.generate\(\*\*batch\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("spread-encoding"),),
        ),
        Reproduce(
            (BERT, "model(dict(input_ids=tokenizer('a film', return_tensors='pt').input_ids))"),
            title=r"A whole dictionary was given as the token ids: write `model\(\*\*\.\.\.\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("spread-encoding"),),
        ),
        Reproduce(
            (DISTILBERT + "tokenizer.model_input_names += ['token_type_ids']\n" + BATCH, "states = model(batch)"),
            title=r"`batch` is the tokenizer's whole output.*; DistilBertModel takes no `token_type_ids`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch", "transformers<5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[ModelCallProbe.name]
        if not seen:
            return self._told(failure, hit)
        if seen["kind"] not in ("BatchEncoding", "BatchFeature", "dict") or seen["argument"] != "input_ids":
            return None
        if "input_ids" not in seen["keys"]:
            return None
        given, unknown = str(seen["variable"]), seen["unknown"]
        called = str(seen["called"])
        whole = "a whole dictionary" if seen["kind"] == "dict" else "the tokenizer's whole output"
        subject = f"`{given}` is {whole}, given as" if given else f"{whole[:1].upper()}{whole[1:]} was given as"
        remedy = f"write `{called}(**{given or '...'})`" if called else "spread it into arguments by `**`"
        if unknown:
            names = ", ".join(f"`{name}`" for name in unknown[:3])
            remedy = f"give its tensors one by one by name; {seen['model']} takes no {names}"
        fixes: tuple[Fix, ...] = ()
        if seen["called"] and not unknown and not seen["spread"]:
            note = "What the batch holds becomes the arguments of these names."
            twice = set(seen["keys"]) & set(seen["names"]) - {"input_ids"}  # given by name as well
            fixes = (
                self.offer(
                    "spread-encoding",
                    f"Write {called}(**...)",
                    note,
                    display=bool(twice) or not seen["tensors"],
                    call=str(seen["written"]),
                ),
            )
        why = "A model takes token ids and mask as arguments of their own; `**` makes them of the batch."
        if not seen["tensors"]:
            why += ' The batch holds lists as yet: ask the tokenizer for return_tensors="pt", too.'
        return self.found(
            f"{subject} the token ids: {remedy}",
            Certainty.CONFIRMED,
            what=f"The first argument of {seen['model']} is `input_ids`, and a {seen['kind']} came.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _told(self, failure: Failure, hit: Hit) -> Diagnosis | None:
        """Of stored text the frames tell: a model's own code asked a batch for its shape."""
        frames = hit.raised.frames[-2:]
        if not failure.stored or len(frames) < 2 or hit.raised.message.strip():
            return None
        if frames[1].function != "__getattr__" or not MODEL_CODE.search(frames[0].file):
            return None
        return self.found(
            "The tokenizer's whole output was given as the token ids: write model(**batch)",
            Certainty.LIKELY,
            what="The model asked a tokenizer's batch for a shape, which it has not.",
            why="A model takes token ids and mask as arguments of their own; `**` makes them of the batch.",
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        written = str(fix.parameters["call"])
        return edit_cells(
            scene, lambda source: edit_calls(source, lambda call: _one(call, written), _spread), apart=True
        )


def _one(call: cst.Call, written: str) -> bool:
    """The call that failed, where its only argument that is not a setting is the batch."""
    first = call.args[0] if call.args and is_written(call, written) else None
    if first is None or first.star or any(arg.keyword is None for arg in call.args[1:]):
        return False
    return first.keyword is None or first.keyword.value in ("input_ids", "inputs")


def _spread(call: cst.Call) -> cst.Call:
    import libcst as cst

    first = call.args[0].with_changes(star="**", keyword=None, equal=cst.MaybeSentinel.DEFAULT)
    return call.with_changes(args=[first, *call.args[1:]])
