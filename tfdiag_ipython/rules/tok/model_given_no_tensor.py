from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, dotted, transform, with_arguments, with_renamed
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_call import ENDINGS, ModelCallProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tok._examples import BERT, DISTILBERT, GPT2, MODELING

if TYPE_CHECKING:
    import libcst as cst

TEXTS = "texts = ['the film was good', 'a film was bad']\n"
UNEQUAL = "texts = ['the film was good', 'a film']\n"
MADE = ("input_ids", "attention_mask", "token_type_ids")
"""What a tokenizer makes."""
OWN = re.compile(r"transformers[/\\](?:models[/\\]|generation[/\\]utils|modeling_)")


class ModelGivenNoTensor(Rule):
    """A model was given lists, arrays or text where it takes tensors.

    *What it means*
    A model of Transformers takes tensors of token ids. It looked at the shape of what it was given, and a list has none.

    *Why it happens*
    A tokenizer returns lists unless `return_tensors="pt"` asks for tensors; transformers 5 ignores a misspelt `return_tensor=` without a word.
    Or the text itself was given; or the rows of a data set whose format was not set.

    *How tfdiag confirms it*
    It reads what the outermost call of the model was given, in the frame that took it, and follows the variable to the tokenizer's call.

    *Fixes and their safety*
    `ask-for-tensors` (safe: the same numbers) adds `return_tensors="pt"` to the tokenizer's call; `write-return-tensors` (safe) corrects its
    name. `ask-for-padded-tensors` (unsafe: padded rows need their attention mask further on) adds `padding=True`, too, where rows differ.

    *Example*
    `model(**tokenizer(["a film", "a plot"]))`.

    *References*
    transformers: `tokenization_utils_base.py`, `BatchEncoding.convert_to_tensors`.
    """

    code = "TOK002"
    name = "model-given-no-tensor"
    raised = ("builtins.AttributeError", "builtins.TypeError")
    message = re.compile(
        r"'(?P<kind>list|tuple|str|(?:numpy\.)?ndarray)' object has no attribute '(?P<attribute>\w+)'"
        r"|embedding\(\): argument 'indices' \(position 2\) must be Tensor, not (?P<other>list|tuple|str|(?:numpy\.)?ndarray)"
        r"|(?:list|tuple|string) indices must be integers(?: or slices)?, not '?tuple"  # in a warning's check of transformers 4
        r"|'(?:int|tuple)' object is not callable"
        r"|received an invalid combination of arguments - got \((?:list|tuple|str|(?:numpy\.)?ndarray)\b"
    )
    needs = (ModelCallProbe,)
    fixes = (
        Offer("ask-for-tensors", Applicability.SAFE),
        Offer("write-return-tensors", Applicability.SAFE),
        Offer("ask-for-padded-tensors", Applicability.UNSAFE),
    )
    links = (Link("Tokenizers' output", "https://huggingface.co/docs/transformers/main_classes/tokenizer"),)
    CASES = (
        Match(
            text=MODELING.format(written="**words", line="input_shape = input_ids.size()")
            + "AttributeError: 'list' object has no attribute 'size'",
            certainty=Certainty.LIKELY,
            title='The model was given a list, and takes tensors: ask the tokenizer for return_tensors="pt"',
        ),
        Match(
            text=MODELING.format(written="'a b'", line="input_shape = input_ids.size()")
            + "AttributeError: 'str' object has no attribute 'size'",
            certainty=Certainty.LIKELY,
            title="The model was given text, and takes ids of tokens: tokenize it first",
        ),
        NoMatch(text="AttributeError: 'list' object has no attribute 'size'"),
        NoMatch(text="TypeError: 'int' object is not callable"),
        NoMatch(
            text="  File \"shop.py\", line 3, in total\n    return cart.shape\nAttributeError: 'list' object has no attribute 'shape'"
        ),
        Reproduce(
            (
                BERT + TEXTS,
                "lists = tokenizer(texts).input_ids\nbatch = tokenizer(texts, padding=True)  # two texts\n"
                "short = [len(row) for row in batch['input_ids']]",
                "scores = model(**batch).logits",
            ),
            title=r'`batch` holds lists, and BertForSequenceClassification takes tensors: add return_tensors="pt" to the call of `tokenizer`',
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-for-tensors"),),
        ),
        Reproduce(
            (GPT2 + TEXTS, "model.generate(tokenizer(texts).input_ids, max_new_tokens=1)"),
            title=r"The input holds lists, and GPT2LMHeadModel\.generate takes tensors",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-for-tensors"),),
        ),
        Reproduce(
            (
                DISTILBERT + UNEQUAL,
                "batch = tokenizer(texts)\nstates = model(batch['input_ids'])",
            ),
            title='`batch` holds lists of 2 to 4 numbers.* add padding=True, return_tensors="pt" to the call of `tokenizer`',
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-for-padded-tensors"),),
        ),
        Reproduce(
            (BERT + TEXTS, "batch = tokenizer(texts, padding=True, return_tensor='pt')", "model(**batch)"),
            title="`return_tensor=` in the call of `tokenizer` was ignored: write `return_tensors=`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-return-tensors"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (BERT + TEXTS, "batch = tokenizer(texts, return_tensors='np')\nmodel(**batch)"),
            title="`batch` holds numpy arrays, and BertForSequenceClassification takes tensors",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-for-tensors"),),
        ),
        Reproduce(
            (BERT + TEXTS, "model(texts)"),
            title="`texts` is text, and BertForSequenceClassification takes ids of tokens: tokenize it first",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(
            (BERT + TEXTS, "batch = tokenizer(texts, return_tensors='pt')\nmodel(**batch, labels=[0, 1])"),
            title=r"`labels` is a list, and BertForSequenceClassification takes tensors: torch\.tensor\(\.\.\.\) makes one",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(  # columns of a data set whose format was not set
            (BERT, "import torch\nrow = {'input_ids': [torch.tensor([2, 3]), torch.tensor([3, 2])]}", "model(**row)"),
            title=r"`row` holds lists of tensors, and BertForSequenceClassification takes tensors: the data loader needs a collator",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[ModelCallProbe.name]
        if not seen:
            return self._told(failure, hit)
        kind, holds = str(seen["kind"]), str(seen["holds"])
        said = (hit["kind"] or hit["other"]).rpartition(".")[2]
        if kind not in ("list", "tuple", "str", "ndarray") or (said and said != kind):
            return None
        taker = f"{seen['model']}{'.generate' if seen['method'] else ''}"
        subject = f"`{seen['variable']}`" if seen["variable"] else "The input"
        if seen["argument"] not in MADE:
            subject = f"`{seen['argument']}`"
        if (kind == "str" or holds == "str") and seen["argument"] != "input_ids":
            return self.found(
                f"{subject} is text, and {taker} takes numbers: make a tensor of their indices",
                Certainty.CONFIRMED,
                what=f"`{seen['argument']}` came as a {kind}.",
                why="For labels, `model.config.label2id` tells the number of each.",
                evidence=seen.seen,
            )
        if kind == "str" or holds == "str":
            return self.found(
                f"{subject} is text, and {taker} takes ids of tokens: tokenize it first",
                Certainty.CONFIRMED,
                what="A model reads numbers; the tokenizer of its checkpoint makes them.",
                why=f'`{seen["called"] or "model"}(**tokenizer(texts, padding=True, return_tensors="pt"))`; a pipeline does both.',
                evidence=seen.seen,
            )
        fixes, remedy = self._remedy(seen, kind, holds)
        title = f"{subject} {_what(seen)}, and {taker} takes tensors: {remedy}"
        if seen["ignored"]:
            title = f"`{seen['ignored']}=` in the call of `{seen['tokenizer']}` was ignored: write `return_tensors=`"
        return self.found(
            title,
            Certainty.CONFIRMED,
            what=f"`{seen['argument']}` came as {'an array' if kind == 'ndarray' else f'a {kind}'}.",
            why='A tokenizer returns lists unless return_tensors="pt" asks for tensors.'
            if holds != "Tensor"
            else "A data loader puts rows that are lists together column by column. A collator pads and stacks them; for rows of one length "
            '`dataset.set_format("torch")` does, too.',
            evidence=seen.seen,
            fixes=fixes,
        )

    def _remedy(self, seen: Evidence, kind: str, holds: str) -> tuple[tuple[Fix, ...], str]:
        """The fix for where these lists come from, and what to do in words."""
        tokenizer, asked, made = str(seen["tokenizer"]), seen["asked"], str(seen["variable"])
        if holds == "Tensor":
            return (), "the data loader needs a collator (DataCollatorWithPadding)"
        asked_already = "return_tensors" in asked and kind != "ndarray"  # what it made was turned into lists
        if seen["argument"] in MADE and seen["mapping"] and not tokenizer:
            return (), 'ask its tokenizer for return_tensors="pt"'
        if not tokenizer or asked_already or seen["argument"] not in MADE:
            return (), "torch.tensor(...) makes one" + (" of rows of equal length" if seen["nested"] else "")
        if seen["ignored"]:
            note = "The tokenizer then returns tensors. transformers 5 ignores arguments that it does not know."
            old = str(seen["ignored"])
            return (
                self.offer(
                    "write-return-tensors", "Write return_tensors=", note, tokenizer=tokenizer, variable=made, old=old
                ),
            ), ""
        if len(seen["lengths"]) > 1 and "padding" not in asked:
            note = "Adds padding=True as well, since a tensor's rows are equally long; pass the attention mask to the model."
            fix = self.offer(
                "ask-for-padded-tensors",
                "Ask for padded tensors",
                note,
                display=not seen["pads"],
                tokenizer=tokenizer,
                variable=made,
            )
            return (fix,), f'add padding=True, return_tensors="pt" to the call of `{tokenizer}`'
        note = f'{"Sets" if "return_tensors" in asked else "Adds"} `return_tensors="pt"` in the tokenizer\'s call.'
        fix = self.offer("ask-for-tensors", "Ask the tokenizer for tensors", note, tokenizer=tokenizer, variable=made)
        return (fix,), f'add return_tensors="pt" to the call of `{tokenizer}`'

    def _told(self, failure: Failure, hit: Hit) -> Diagnosis | None:
        """Of stored text the line that raised tells: a shape that Transformers' own code of a model asked for."""
        kind = hit["kind"].rpartition(".")[2]
        last = hit.raised.frames[-1] if hit.raised.frames else None
        shape = hit["attribute"] in ("size", "shape", "dim", "ne", "new_zeros")
        if not failure.stored or last is None or not shape or not OWN.search(last.file):
            return None
        if kind == "str":
            title = "The model was given text, and takes ids of tokens: tokenize it first"
        else:
            article = "an array" if kind == "ndarray" else f"a {kind}"
            title = f'The model was given {article}, and takes tensors: ask the tokenizer for return_tensors="pt"'
        return self.found(
            title,
            Certainty.LIKELY,
            what="The model asked for the shape of what it was given.",
            why='A tokenizer returns lists unless return_tensors="pt" asks for tensors; `padding=True` makes rows equally long.',
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        wanted = calls_to(*(f"{fix.parameters['tokenizer']}{ending}" for ending in ENDINGS))
        new = {"return_tensors": '"pt"'} | ({"padding": "True"} if fix.id == "ask-for-padded-tensors" else {})

        def change(call: cst.Call) -> cst.Call:
            if not wanted(call):
                return call
            if fix.id == "write-return-tensors":
                return with_renamed(call, str(fix.parameters["old"]), "return_tensors")
            return with_arguments(call, new)

        return edit_cells(scene, lambda source: _made(source, str(fix.parameters["variable"]), change), apart=True)


def _made(source: str, variable: str, change: Callable[[cst.Call], cst.Call]) -> str:
    """The cell with the calls changed that make this variable (empty: all): others may be wanted as lists."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def __init__(self) -> None:
            self.inside = not variable

        def visit_Assign(self, node: cst.Assign) -> None:
            self.inside = not variable or variable in [dotted(target.target) for target in node.targets]

        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            self.inside = not variable
            return updated_node

        def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
            return change(updated_node) if self.inside else updated_node

    return transform(source, lambda tree: tree.visit(Editor()))


def _what(seen: Evidence) -> str:
    """``holds lists``, ``is a list``, as it is given."""
    kind, of = str(seen["kind"]), " of tensors" if seen["holds"] == "Tensor" else ""
    within = seen["argument"] in MADE and (seen["mapping"] or (seen["nested"] and kind != "ndarray"))
    if kind == "ndarray":
        return "holds numpy arrays" if within else "is a numpy array"
    if not within:
        return f"is a {kind}{of}"
    long = seen["lengths"]
    return f"holds lists of {long[0]} to {long[-1]} numbers" if len(long) > 1 else f"holds lists{of}"
