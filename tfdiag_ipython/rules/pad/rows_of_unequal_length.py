from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.tokenizers import TokenizersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import plain
from tfdiag_ipython.rules.pad._examples import TOKENIZER

PADDED = TOKENIZER + "tokenizer.pad_token = tokenizer.eos_token\n"


class RowsOfUnequalLength(Rule):
    """The rows of a batch have different lengths, or hold something other than numbers, and no tensor can be made of them.

    *What it means*
    A tensor is a rectangle of numbers. Rows are made equally long by padding; a column of text can never be one.

    *Why it happens*
    The tokenizer was called with `return_tensors` and without `padding`; the collator pads `input_ids` but not a column of labels; or a
    text column was left in the data set.

    *How tfdiag confirms it*
    The exception below tells two lengths, or that a text was found; the message names the column.

    *Fixes and their safety*
    `pad-rows` (unsafe: padded rows need their attention mask further on) adds `padding=True` to the tokenizer's call.

    *Example*
    `tokenizer(["a", "a longer text"], return_tensors="pt")`

    *References*
    transformers: `tokenization_utils_base.py`, `BatchEncoding.convert_to_tensors`.
    """

    code = "PAD006"
    name = "rows-of-unequal-length"
    raised = ("builtins.ValueError", "builtins.RuntimeError")
    message = re.compile(
        r"Unable to create tensor, you should probably activate truncation and/or padding(?:.{0,200}?\(`(?P<feature>\w+)` in this case\))?"
        r"|expected sequence of length (?P<first>\d+) at dim \d+ \(got (?P<second>\d+)\)"
        r"|stack expects each tensor to be equal size, but got \[\d+\] at entry \d+ and \[\d+\] at entry \d+"
        r"|(?P<text>too many dimensions 'str')",
        re.DOTALL,
    )
    needs = (TokenizersProbe,)
    fixes = (Offer("pad-rows", Applicability.UNSAFE),)
    links = (Link("Padding and truncation", "https://huggingface.co/docs/transformers/pad_truncation"),)
    CASES = (
        Match(
            text="ValueError: Unable to create tensor, you should probably activate truncation and/or padding with 'padding=True' "
            "'truncation=True' to have batched tensors with the same length. Perhaps your features (`labels` in this case) have "
            "excessive nesting (inputs type `list` where type `int` is expected).",
            certainty=Certainty.LIKELY,
            title="`labels`",
        ),
        Match(text="ValueError: expected sequence of length 7 at dim 1 (got 9)", title="7 and 9"),
        Match(text="ValueError: too many dimensions 'str'", title="text"),
        Match(
            text="RuntimeError: stack expects each tensor to be equal size, but got [7] at entry 0 and [9] at entry 1",
            title="7 and 9",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "fit.py", line 3, in <module>\n    torch.tensor([[1, 2], [3]])\n'
            "ValueError: expected sequence of length 2 at dim 1 (got 1)",
            certainty=Certainty.LIKELY,
            title="The rows have different lengths .2 and 1.: no tensor can be made of them",
        ),
        NoMatch(
            text="RuntimeError: stack expects each tensor to be equal size, but got [3, 224, 224] at entry 0 and [1, 224, 224] at entry 1"
        ),
        NoMatch(text="ValueError: Unable to create tensor proto of more than 2 GB"),
        NoMatch(text="ValueError: expected sequence of bytes"),
        Reproduce(
            (PADDED, "batch = tokenizer(['good film', 'film'], return_tensors='pt')"),
            title="`input_ids` have different lengths \\(2 and 1\\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("pad-rows"),),
        ),
        Reproduce(
            (
                PADDED
                + "from transformers import DataCollatorWithPadding\ncollate = DataCollatorWithPadding(tokenizer)",
                "batch = collate([{'input_ids': [2, 3], 'title': 'good film'}, {'input_ids': [3], 'title': 'film'}])",
            ),
            title="`title` holds text",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            ("import torch", "torch.tensor([[1, 2], [3]])"),
            title=r"different lengths \(2 and 1\): no tensor",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
        Reproduce(
            ("import torch", "torch.tensor([['a', 'b']])"),
            title="The list holds text",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        column = hit["feature"]
        lengths = failure.says(r"expected sequence of length (\d+) at dim \d+ \(got (\d+)\)") or failure.says(
            r"but got \[(\d+)\] at entry \d+ and \[(\d+)\] at entry"
        )
        text = bool(hit["text"] or failure.says(r"too many dimensions 'str'"))
        certainty = Certainty.CONFIRMED if lengths or text else Certainty.LIKELY
        alone = not column and plain(failure)
        if text and alone:
            return self.found(
                "The list holds text, not numbers: no tensor can be made of it",
                certainty,
                what="A tensor holds numbers only: turn the texts into numbers first (ids of tokens, indices of classes).",
            )
        if text:
            return self.found(
                f"{f'`{column}`' if column else 'A column'} holds text, not numbers: no tensor can be made of it",
                certainty,
                what="A list of texts was to become a tensor.",
                why="Tokenize it, turn labels into numbers, or remove the column before the rows are collated (`remove_columns=`).",
            )
        told = f" ({lengths[1]} and {lengths[2]})" if lengths else ""
        if alone:
            return self.found(
                f"The rows have different lengths{told}: no tensor can be made of them",
                certainty,
                what="A tensor is a rectangle: all rows must have the same length.",
                why="Make them equally long, or keep them as a list; a tokenizer does the former with padding=True.",
            )
        ids = column in {"", "input_ids", "attention_mask", "token_type_ids"}
        rows = f"The rows of `{column}`" if column else "The rows"
        answer = "ask the tokenizer for padding=True" if ids else "the collator does not pad this column"
        return self.found(
            f"{rows} have different lengths{told}: {answer}",
            certainty,
            what="A tensor is a rectangle: all rows must have the same length.",
            why="padding=True makes the rows of one call equally long; for batches of a data loader use DataCollatorWithPadding."
            if ids
            else "Use a collator that pads labels (DataCollatorForTokenClassification, DataCollatorForSeq2Seq), or one label per row.",
            evidence=evidence[TokenizersProbe.name].seen,
            fixes=self._remedy(evidence[TokenizersProbe.name], column),
        )

    def _remedy(self, seen: Evidence, column: str) -> tuple[Fix, ...]:
        """Only a tokenizer that has a padding token can pad; a collator's call takes no such argument."""
        if column != "input_ids" or not seen.get("tokenizer") or not seen.get("pad"):
            return ()
        return (self.offer("pad-rows", "Pad the rows", "Adds `padding=True` to the tokenizer's call."),)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return edit_cells(scene, lambda source: set_arguments(source, _makes_tensors, {"padding": "True"}), apart=True)


def _makes_tensors(call: object) -> bool:
    """A call that asks for tensors, as tokenizers are asked."""
    return any(arg.keyword is not None and arg.keyword.value == "return_tensors" for arg in getattr(call, "args", ()))
