from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls, is_written, with_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.tokenized_text import TokenizedTextProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.tok._examples import TOKENIZER

if TYPE_CHECKING:
    import libcst as cst

FRAME = "import pandas\nframe = pandas.DataFrame({'text': ['the film', 'a film']})\n"
MODULE = re.compile(r"transformers[/\\]|tokenizers\b")


class TextIsNoText(Rule):
    """A tokenizer was given something that is no text: None, NaN, a number, bytes, a column of a table.

    *What it means*
    Tokenizers take a string or a list of strings. The message repeats that, and does not say which element is none.

    *Why it happens*
    An empty cell of a table is `nan`, a failed preparation `None`; a column of pandas, numpy or datasets is no list.

    *How tfdiag confirms it*
    It looks at the classes of the elements in the frame that took them, and names the first that is no string, and how many there are.

    *Fixes and their safety*
    `give-a-list` (safe: the same texts) writes `list(...)` around a column that holds text only. `say-split-into-words` (unsafe: words are
    joined to texts) adds `is_split_into_words=True` where each text is a list of words. What a missing text should be, only you know.

    *Example*
    `tokenizer(["good", None])`.

    *References*
    transformers: `PreTrainedTokenizerBase.__call__`.
    """

    code = "TOK005"
    name = "text-is-no-text"
    raised = ("builtins.ValueError", "builtins.TypeError")
    message = re.compile(
        r"text(?:_pair)? input must (?:be )?of type `str`"
        r"|Input [^\n]{0,300}?is not valid\. Should be a string, a list/tuple of strings"
        r"|TextEncodeInput must be Union|TextInputSequence must be str|PreTokenizedInputSequence must be"
        r"|PreTokenizedEncodeInput must be Union"
        r"|batch_text_or_text_pairs has to be a list or a tuple"
        r"|Words must be of type `?[Ll]ist\[str\]"
        r"|(?P<none>You need to specify either `text` or `text_target`)"
    )
    needs = (TokenizedTextProbe,)
    fixes = (Offer("give-a-list", Applicability.SAFE), Offer("say-split-into-words", Applicability.UNSAFE))
    links = (Link("Tokenizers", "https://huggingface.co/docs/transformers/main_classes/tokenizer"),)
    CASES = (
        Match(
            text="ValueError: text input must of type `str` (single example), `List[str]` (batch of examples).",
            certainty=Certainty.LIKELY,
            title="The tokenizer was given something that is no text: look for None, NaN or numbers",
        ),
        Match(
            text="ValueError: Input 3.5 is not valid. Should be a string, a list/tuple of strings or a list/tuple of integers."
        ),
        Match(
            text="TypeError: TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]",
            certainty=Certainty.LIKELY,
        ),
        NoMatch(text="ValueError: Input is not valid. Should be a number."),
        NoMatch(text="TypeError: text input must be of type str"),
        Reproduce(
            (TOKENIZER, "texts = ['the film', float('nan'), None]\nbatch = tokenizer(texts, padding=True)"),
            title=r"`texts\[1\]` is nan, no text \(2 of 3 are none\): leave such rows out",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (TOKENIZER, "found = {'text': None}", "ids = tokenizer(found['text']).input_ids"),
            title=r"`found\['text'\]` is None, no text",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (TOKENIZER, "ids = tokenizer.encode(b'the film')"),
            title=r"`b'the film'` is of class bytes, no text: decode it",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                TOKENIZER + "import numpy\nnames = numpy.array(['the film', 'a film'])",
                "tokenizer(names, padding=True)  # both",
            ),
            title=r"`names` is a numpy ndarray, and a tokenizer takes a list: write `list\(names\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("give-a-list"),),
        ),
        Reproduce(
            (TOKENIZER + FRAME, "batch = tokenizer(text=frame['text'])"),
            title=r"`frame\['text'\]` is a pandas Series",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("give-a-list"),),
            needs=("torch", "transformers", "pandas"),
        ),
        Reproduce(
            (TOKENIZER, "rows = [['the', 'film', 'was'], ['a', 'plot']]\nbatch = tokenizer(rows)"),
            title=r"`rows` holds lists of words: add is_split_into_words=True",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("say-split-into-words"),),
        ),
        Reproduce(
            (TOKENIZER, "rows = [['a', 'film'], ['the', 3]]\ntokenizer(rows, is_split_into_words=True)"),
            title=r"`rows\[1\]\[1\]` is 3, no text: str\(\.\.\.\) makes one of it",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (TOKENIZER, "tokenizer([['the film was good'], ['a film']])"),
            title=r"Text 0 of the list is of class list, no text.*: take the text out of each",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(  # a length that was given by place
            (TOKENIZER, "tokenizer(['the film'], 128)"),
            title=r"What came as `text_pair` is 128, no text\Z",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (TOKENIZER, "tokenizer('the film', None, 128)"),
            title=r"What came as `text_target` is 128, no text\Z",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(  # labels that were given by place
            (TOKENIZER, "tokenizer(['the film'], [1])"),
            title=r"Element 0 of `text_pair` is 1, no text\Z",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (TOKENIZER, "tokenizer(['the film', 7])"),
            title=r"Text 1 of the list is 7, no text",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[TokenizedTextProbe.name]
        if own(failure, MODULE):
            return None  # words of the person's own
        if not seen:
            if not failure.stored:
                return None
            title = (
                "The tokenizer was given None as its text"
                if hit["none"]
                else (
                    "The tokenizer was given something that is no text: look for None, NaN or numbers among the texts"
                )
            )
            return self.found(
                title,
                Certainty.LIKELY,
                what="Tokenizers take a string or a list of strings.",
                why="An empty cell of a table is NaN, no text. Columns of pandas, numpy or datasets become lists by `list(...)`.",
            )
        written = str(seen["written"])
        subject = f"`{written}`" if written and written != seen["value"] else f"What came as `{seen['argument']}`"
        what, fixes = "Tokenizers take a string or a list of strings.", self._remedy(seen)
        if seen["words"]:
            title = f"{subject} holds lists of words: add is_split_into_words=True"
        elif seen["odd"]:
            title = self._element(seen, written)
        elif seen["column"]:
            title = f"{subject} is a {seen['column']} {seen['kind']}, and a tokenizer takes a list: write `list({written or '...'})`"
        else:
            is_ = seen["value"] or f"of class {seen['kind']}"
            cure = _cure(seen["kind"], whole=True) if seen["argument"] in ("text", "batch_text_or_text_pairs") else ""
            title = f"{subject} is {is_}, no text{cure}"
        return self.found(
            title[:200],
            Certainty.CONFIRMED,
            what=what,
            why="An empty cell of a table is nan, a preparation that found nothing returns None.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def _element(self, seen: Evidence, written: str) -> str:
        plain = re.fullmatch(r"[A-Za-z_][\w.\[\]'\"]*", written) is not None
        text = seen["argument"] in ("text", "batch_text_or_text_pairs")
        element, whole = ("Text", "the list") if text else ("Element", f"`{seen['argument']}`")
        named = (
            f"`{written}[{seen['place']}]`"
            if plain and not seen["column"]
            else f"{element} {str(seen['place']).replace('][', ', word ')} of {whole}"
        )
        if plain and seen["column"]:
            named = f"Row {seen['place']} of `{written}`"
        is_ = seen["value"] or f"of class {seen['odd']}"
        many = f" ({seen['odds']} of {seen['length']} are none)" if seen["odds"] > 1 and not seen["column"] else ""
        return f"{named} is {is_}, no text{many}{_cure(seen['odd']) if text else ''}"

    def _remedy(self, seen: Evidence) -> tuple[Fix, ...]:
        tokenizer = str(seen["tokenizer"])
        if not tokenizer or not seen["written"] or seen["others"]:
            return ()
        if seen["words"]:
            note = "Each text is a list of its words, and the tokenizer is told so."
            return (
                self.offer(
                    "say-split-into-words",
                    "Say that the texts are split",
                    note,
                    tokenizer=tokenizer,
                    text=str(seen["written"]),
                ),
            )
        if seen["column"] and not seen["odd"]:
            note = f"`list(...)` holds the same texts as the {seen['kind']}."
            return (
                self.offer(
                    "give-a-list", "Give the tokenizer a list", note, tokenizer=tokenizer, text=str(seen["written"])
                ),
            )
        return ()

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        tokenizer, text = str(fix.parameters["tokenizer"]), str(fix.parameters["text"])

        def wanted(call: cst.Call) -> bool:
            return dotted(call.func) == tokenizer and any(_is(arg, text) for arg in call.args[:3])

        def change(call: cst.Call) -> cst.Call:
            if fix.id == "say-split-into-words":
                return with_arguments(call, {"is_split_into_words": "True"})
            return _with_list(call, text)

        return edit_cells(scene, lambda source: edit_calls(source, wanted, change), apart=True)


def _is(arg: cst.Arg, text: str) -> bool:
    """Whether the argument is this expression, however it is laid out."""
    return not arg.star and is_written(arg.value, text)


def _cure(kind: str, *, whole: bool = False) -> str:
    """What to do about an element of this class."""
    if kind == "bytes":
        return ": decode it"
    if kind in ("NoneType", "float", "NAType", "float64"):
        return ": look where it comes from" if whole else ": leave such rows out, or give them a text"
    if kind in ("list", "tuple"):
        return ": take the text out of each"
    if kind in ("generator", "map", "filter", "set", "dict_keys", "dict_values", "zip"):
        return ": list(...) makes a list of it"
    if kind in ("DataFrame", "Dataset", "DatasetDict"):
        return ": take its column of texts"
    if kind == "dict":
        return ": take the text out of it (messages of a chat go into apply_chat_template)"
    return ": str(...) makes one of it" if kind.startswith("int") else ": give the text itself"


def _with_list(call: cst.Call, text: str) -> cst.Call:
    import libcst as cst

    args = [
        arg.with_changes(value=cst.Call(cst.Name("list"), [cst.Arg(arg.value)])) if _is(arg, text) else arg
        for arg in call.args
    ]
    return call.with_changes(args=args)
