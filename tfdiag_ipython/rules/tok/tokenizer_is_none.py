from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.missing_tokenizer import MissingTokenizerProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tok._examples import TOKENIZER

METHODS = (
    "encode|encode_plus|batch_encode_plus|decode|batch_decode|tokenize|pad|apply_chat_template|pad_token|pad_token_id|eos_token|eos_token_id"
    "|bos_token_id|cls_token_id|sep_token_id|mask_token|mask_token_id|unk_token_id|convert_ids_to_tokens|convert_tokens_to_ids|get_vocab"
    "|vocab_size|model_max_length|padding_side|add_tokens|add_special_tokens|save_pretrained"
)


ONLY = "encode_plus|batch_encode_plus|batch_decode|apply_chat_template|convert_ids_to_tokens|convert_tokens_to_ids"
"""Methods that nothing but a tokenizer of Transformers has."""
ARROW = re.compile(r"^-{1,6}> *\d+ ([^\n]{1,300})", re.MULTILINE)
"""The lines that IPython points at."""


class TokenizerIsNone(Rule):
    """A tokenizer that the program is about to use is None.

    *What it means*
    The variable or attribute exists, and holds no tokenizer.

    *Why it happens*
    The function that was to load it returns nothing; an object was made without one (`tokenizer=None`); or an old library caught the
    reason for which it could not be built (sentencepiece is missing) and went on with None.

    *How tfdiag confirms it*
    It reads the expression in the frame that failed, and finds the cell that bound it. A traceback that is only pasted has to show the
    line in which a tokenizer is used.

    *Fixes and their safety*
    None is carried out: which tokenizer is meant, only the program can say.

    *Example*
    `def load(): tok = AutoTokenizer.from_pretrained("gpt2")` without a `return`; `tokenizer = load()`; `tokenizer.encode("a")`.

    *References*
    Python: `AttributeError.name`.
    """

    code = "TOK007"
    name = "tokenizer-is-none"
    raised = ("builtins.AttributeError", "builtins.TypeError")
    message = re.compile(rf"'NoneType' object (?:has no attribute '(?P<attribute>{METHODS})'|is not callable)")
    needs = (MissingTokenizerProbe,)
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "/srv/app/serve.py", line 12, in answer\n'
            "    ids = self.tokenizer.encode(question)\nAttributeError: 'NoneType' object has no attribute 'encode'",
            certainty=Certainty.LIKELY,
            title="`self.tokenizer` is None",
        ),
        Match(
            text="/srv/app/reader.py in read(self, text)\n     88         # words\n---> 89         return self.tokenizer.encode(text)\n"
            "\nAttributeError: 'NoneType' object has no attribute 'encode'",
            certainty=Certainty.LIKELY,
            title="`self.tokenizer` is None",
        ),
        Match(
            text="AttributeError: 'NoneType' object has no attribute 'batch_decode'",
            certainty=Certainty.LIKELY,
            title="The tokenizer is None: look where it is made",
        ),
        Match(text="AttributeError: 'NoneType' object has no attribute 'tokenize'", certainty=Certainty.POSSIBLE),
        NoMatch(text="AttributeError: 'NoneType' object has no attribute 'encode'"),
        NoMatch(
            text='  File "login.py", line 3, in check\n    key = password.encode()\n'
            "AttributeError: 'NoneType' object has no attribute 'encode'"
        ),
        NoMatch(text="TypeError: 'NoneType' object is not callable"),
        Reproduce(
            (
                TOKENIZER,
                "def load():\n    loaded = tokenizer  # and no more\nmine = tokenizer\ntokenizer = load()",
                "ids = tokenizer.encode('the film')",
            ),
            title=r"`tokenizer` is None: load\(\), which made it in cell 2, returns nothing",
            certainty=Certainty.CONFIRMED,
            needs=("transformers",),
        ),
        Reproduce(
            (
                "class Reader:\n    def __init__(self, tokenizer=None):\n        self.tokenizer = tokenizer\n"
                "    def read(self, text):\n        return self.tokenizer(text)\nreader = Reader()",
                "reader.read('the film')",
            ),
            title=r"`self\.tokenizer` is None: cell 1 bound it to `tokenizer`",
            certainty=Certainty.CONFIRMED,
            needs=(),
        ),
        Reproduce(  # two methods bind it, and one ran
            (
                "class Reader:\n    def __init__(self):\n        self.tokenizer = None\n"
                "    def load(self):\n        self.tokenizer = object()\n"
                "    def read(self, text):\n        return self.tokenizer(text)\nreader = Reader()",
                "reader.read('the film')",
            ),
            title=r"`self\.tokenizer` is None\Z",
            certainty=Certainty.CONFIRMED,
            needs=(),
        ),
        Reproduce(  # the function's own, not the notebook's
            (
                "tokenizer = 'made'\ndef read(tokenizer, text):\n    return tokenizer.encode(text)",
                "read(None, 'the film')\ntokenizer = 'made later'",
            ),
            title=r"`tokenizer` is None\Z",
            certainty=Certainty.CONFIRMED,
            needs=(),
        ),
        Reproduce(
            ("tokenizer = 'made'", "for tokenizer in ('a', None):\n    tokenizer.encode('utf8')"),
            title=r"`tokenizer` is None\Z",
            certainty=Certainty.CONFIRMED,
            needs=(),
        ),
        Reproduce(
            ("tokenizer = None", "print(tokenizer.pad_token_id)"),
            title="`tokenizer` is None: cell 1 bound it to None",
            certainty=Certainty.CONFIRMED,
            needs=(),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[MissingTokenizerProbe.name]
        if not seen:
            return self._told(failure, hit)
        name, bound = f"`{seen['name']}`", str(seen["bound"])
        title = f"{name} is None"
        if seen["function"]:
            title += f": {seen['function']}(), which made it in {seen['cell']}, returns nothing"
        elif bound:
            title += f": {seen['cell']} bound it to {bound if bound == 'None' else f'`{bound}`'}"
        return self.found(
            title,
            Certainty.CONFIRMED,
            what="There is no tokenizer to work with.",
            why="A function without `return` gives None." if seen["function"] else "Look where it is made.",
            evidence=seen.seen,
        )

    def _told(self, failure: Failure, hit: Hit) -> Diagnosis | None:
        """Of stored text the failing line tells whose method it was."""
        if not failure.stored or not hit["attribute"]:
            return None
        last = hit.raised.frames[-1].source if hit.raised.frames else ""
        lines = [last, *ARROW.findall(failure.text)[-1:]]
        used = rf"(?<![\w.])((?:\w{{1,40}}\.){{0,4}}\w{{0,40}}tokeni[sz]er)\.{hit['attribute']}\b"
        found = next((match for line in lines if (match := re.search(used, line))), None)
        only = hit["attribute"] in ONLY.split("|") and not any(lines)
        if not found and (any(lines) or not (only or hit["attribute"] == "tokenize")):
            return None
        return self.found(
            f"{f'`{found[1]}`' if found else 'The tokenizer'} is None: look where it is made",
            Certainty.LIKELY if found or only else Certainty.POSSIBLE,
            what="There is no tokenizer to work with.",
            why="What was to load it returned nothing, or was never called. Older libraries went on with None where sentencepiece was missing, "
            "or was installed and the kernel not restarted.",
        )
