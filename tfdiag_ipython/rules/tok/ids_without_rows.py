from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.arguments import with_behind
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls, is_written
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_call import INPUTS, ModelCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tok._examples import BERT, DISTILBERT, GPT2, MODELING

if TYPE_CHECKING:
    import libcst as cst

IDS = "import torch\nids = torch.tensor(tokenizer.encode('the film was good'))\n"
SHAPE = re.compile(r"(?:input_shape|input_ids\.(?:size|shape)|seq_len(?:gth)?\b)")
"""What the line says that takes the ids' shape apart."""
MODEL_CODE = re.compile(r"transformers[/\\](?:models[/\\]|generation[/\\]utils|modeling_)")


class IdsWithoutRows(Rule):
    """A model was given the ids of one text as a single row of numbers, without the dimension of the batch.

    *What it means*
    Models take `input_ids` with a row for each text, [texts, tokens], for one text, too. With one dimension alone the number of texts is
    missing, and each architecture stumbles over that elsewhere.

    *Why it happens*
    `torch.tensor(tokenizer.encode(text))` or one row of a data set has one dimension; `tokenizer(text, return_tensors="pt")` has two.

    *How tfdiag confirms it*
    It reads the dimensions of the tensors that the outermost call of the model was given.

    *Fixes and their safety*
    `add-batch-dimension` (safe: one text is a batch of one) writes `.unsqueeze(0)` behind each such tensor in the call.

    *Example*
    `model(torch.tensor(tokenizer.encode("a film")))`.

    *References*
    transformers: the `input_ids` of every model's `forward`, "of shape (batch_size, sequence_length)".
    """

    code = "TOK004"
    name = "ids-without-rows"
    raised = ("builtins.ValueError", "builtins.IndexError", "builtins.RuntimeError")
    specific = True
    message = re.compile(
        r"not enough values to unpack \(expected 2, got (?P<got>[01])\)"
        r"|too many indices for tensor of dimension [12]\b"
        r"|tuple index out of range"
        r"|Dimension out of range \(expected to be in range of \[-1, 0\], but got 1\)"
        r"|The size of tensor a \(\d+\) must match the size of tensor b \(\d+\) at non-singleton dimension \d"
    )
    needs = (ModelCallProbe,)
    fixes = (Offer("add-batch-dimension", Applicability.SAFE),)
    CASES = (
        Match(
            text=MODELING.format(written="ids", line="batch_size, seq_length = input_shape")
            + "ValueError: not enough values to unpack (expected 2, got 1)",
            certainty=Certainty.LIKELY,
            title=r"The model was given ids without a dimension for the texts: .*unsqueeze\(0\)",
        ),
        NoMatch(text="ValueError: not enough values to unpack (expected 2, got 1)"),
        NoMatch(
            text='  File "rows.py", line 4, in <module>\n    name, price = line.split()\n'
            "ValueError: not enough values to unpack (expected 2, got 1)"
        ),
        NoMatch(text="IndexError: tuple index out of range"),
        NoMatch(
            text="RuntimeError: The size of tensor a (7) must match the size of tensor b (9) at non-singleton dimension 1"
        ),
        Reproduce(
            (BERT + IDS, "model(ids, attention_mask=torch.ones_like(ids))  # one text"),
            title=r"`ids` has one dimension \(4 ids\), and BertForSequenceClassification takes \[texts, tokens\]: write `ids\.unsqueeze\(0\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-batch-dimension"),),
        ),
        Reproduce(  # other calls stay as they are
            (BERT + IDS, "scores = model(ids)\nrows = ids[None]\nagain = model(rows)"),
            title=r"`ids` has one dimension",
            fixes=(Try("add-batch-dimension"),),
        ),
        Reproduce(  # other callers may give rows
            (
                BERT + IDS + "def scores(ids):\n    return model(ids).logits\nrows = scores(ids[None])",
                "one = scores(ids)",
            ),
            title=r"`ids` has one dimension",
            bare=True,
        ),
        Reproduce(
            (GPT2 + IDS, "out = model.generate(ids, max_new_tokens=1, do_sample=False)"),
            title=r"`ids` has one dimension \(4 ids\), and GPT2LMHeadModel\.generate takes",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-batch-dimension"),),
        ),
        Reproduce(
            (GPT2 + IDS, "logits = model(input_ids=ids).logits"),
            title=r"`ids` has one dimension",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-batch-dimension"),),
        ),
        Reproduce(
            (DISTILBERT + IDS + "row = {'input_ids': ids, 'attention_mask': ids > 0}", "states = model(**row)"),
            title=r"`row` holds ids of one dimension \(4 ids\), and DistilBertModel takes \[texts, tokens\]",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("add-batch-dimension"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[ModelCallProbe.name]
        if not seen:
            return self._told(failure, hit)
        if seen["argument"] != "input_ids" or seen["dimensions"].get("input_ids") != 1:
            return None
        called, variable = str(seen["called"]), str(seen["variable"])
        taker = f"{seen['model']}{'.generate' if seen['method'] else ''}"
        count = f"({seen['size']} ids)" if seen["size"] != 1 else "(1 id)"
        given = f"`{variable}` has" if variable and not seen["mapping"] else "The ids have"
        if variable and seen["spread"]:
            given = f"`{variable}` holds ids of"
        short = [name for name in INPUTS if seen["dimensions"].get(name) == 1]
        remedy = f"write `{variable}.unsqueeze(0)`" if variable and not seen["mapping"] else "add one by unsqueeze(0)"
        fixes: tuple[Fix, ...] = ()
        alike = not seen["spread"] or set(seen["names"]) == set(seen["dimensions"])
        if called and alike and seen["positional"] < 2 and "labels" not in short:
            note = "One text becomes a batch of one."
            values: dict[str, Any] = {
                "call": str(seen["written"]),
                "names": tuple(short),
                "spread": variable if seen["spread"] else "",
            }
            fixes = (
                self.offer(
                    "add-batch-dimension", "Make it a batch of one", note, display=bool(seen["inside"]), **values
                ),
            )
        return self.found(
            f"{given} one dimension {count}, and {taker} takes [texts, tokens]: {remedy}",
            Certainty.CONFIRMED,
            what="The dimension that counts the texts is missing.",
            why='`tokenizer(text, return_tensors="pt")` has it; `torch.tensor(tokenizer.encode(text))` and one row of a data set have not.',
            evidence=seen.seen,
            fixes=fixes,
        )

    def _told(self, failure: Failure, hit: Hit) -> Diagnosis | None:
        """Of stored text the line tells that raised: a model's own code took the ids' shape apart."""
        last = hit.raised.frames[-1] if hit.raised.frames else None
        if not failure.stored or last is None or hit["got"] != "1" or not MODEL_CODE.search(last.file):
            return None
        if not SHAPE.search(last.source):
            return None
        return self.found(
            "The model was given ids without a dimension for the texts: add it by unsqueeze(0), or by [text] to the tokenizer",
            Certainty.LIKELY,
            what="The model takes the ids' shape apart into texts and tokens, and there is one number.",
            why='`tokenizer(text, return_tensors="pt")` has both dimensions; `torch.tensor(tokenizer.encode(text))` has one.',
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        written, names = str(fix.parameters["call"]), fix.parameters["names"]
        spread = str(fix.parameters["spread"])
        return edit_cells(
            scene,
            lambda source: edit_calls(
                source, lambda call: is_written(call, written), lambda call: _with_rows(call, names, spread)
            ),
            apart=True,
        )


def _with_rows(call: cst.Call, names: tuple[str, ...], spread: str) -> cst.Call:
    """The call with a dimension put in front of these arguments, or of all that the variable spreads."""
    import libcst as cst

    for place, arg in enumerate(call.args):
        keyword = arg.keyword.value if arg.keyword is not None else ""
        name = "input_ids" if keyword == "inputs" or not (keyword or place) else keyword
        if spread and arg.star == "**" and dotted(arg.value) == spread:
            rows = cst.parse_expression(f"{{name: value[None] for name, value in {spread}.items()}}")
            call = call.with_deep_changes(arg, value=rows)
        elif name in names and not arg.star:
            call = with_behind(call, keyword, place, ".unsqueeze(0)")
    return call
