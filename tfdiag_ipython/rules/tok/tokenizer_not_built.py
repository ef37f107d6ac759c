from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.configuration_file import ConfigurationFileProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._json_files import unreadable
from tfdiag_ipython.rules._places import TRANSFORMERS, own

_NO_FILE = re.compile(
    r"Either model_file or model_proto must be specified|path should be string, bytes, os\.PathLike or integer, not NoneType"
    r"|expected str, bytes or os\.PathLike object, not NoneType|^not a string",
    re.MULTILINE,
)
_ASKED = "Checkout the instructions on the\ninstallation page of its repo: https://github.com/protocolbuffers/protobuf/tree/master/python"
ERROR = f"ImportError: \n requires the protobuf library but it was not found in your environment. {_ASKED}"
CHAINED = (
    'Traceback (most recent call last):\n  File "/x/transformers/tokenization_utils_base.py", line 2359, in _from_pretrained\n'
    "    tokenizer = cls(*init_inputs, **init_kwargs)\nTypeError: expected str, bytes or os.PathLike object, not NoneType\n\n"
    "During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n"
    '  File "/x/transformers/tokenization_utils_base.py", line 88, in import_protobuf_decode_error\n    raise ImportError(X)\n'
)
SETUP = (
    "import os, pathlib, tempfile\nos.chdir(tempfile.mkdtemp())\nfrom transformers import BertConfig, GPT2Config, PreTrainedTokenizerFast\n"
    "from tokenizers import Tokenizer, models\n"
    "words = Tokenizer(models.WordLevel({'a': 0}, unk_token='a'))\n"
)
LOAD = "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('model')"


class TokenizerNotBuilt(Rule):
    """A tokenizer's file is missing or damaged, and the error says that protobuf is missing.

    *What it means*
    transformers 4 builds the tokenizer, fails, and looks for protobuf only to ask whether the failure was protobuf's. Without protobuf
    that question itself fails, and hides the true error.

    *Why it happens*
    Only the weights were copied or saved, or `tokenizer.json` is empty, cut short or a Git LFS pointer.

    *How tfdiag confirms it*
    It reads the error one level down, and looks at the tokenizer's files that the loader had found.

    *Fixes and their safety*
    None is carried out: the right files are not known here. Installing protobuf would only show the true error.

    *Example*
    `AutoTokenizer.from_pretrained(folder)` where the folder holds a GPT-2 and no tokenizer.

    *References*
    transformers 4.57: `tokenization_utils_base.py`, `import_protobuf_decode_error`.
    """

    code = "TOK001"
    name = "tokenizer-not-built"
    raised = ("builtins.ImportError",)
    specific = True
    message = re.compile(r"\A\s*requires the protobuf library but it was not found")
    needs = (ConfigurationFileProbe,)
    links = (Link("Saving a tokenizer", "https://huggingface.co/docs/transformers/main_classes/tokenizer"),)
    CASES = (
        Match(
            text=CHAINED + ERROR,
            certainty=Certainty.LIKELY,
            title="vocabulary file is not where the model was loaded from; protobuf is not what is missing",
        ),
        NoMatch(text=ERROR, code="IMP004"),
        NoMatch(text=ERROR.replace("protobuf", "sentencepiece"), code="IMP004"),
        Reproduce(
            (
                "import tempfile\nfrom transformers import T5Tokenizer\nfolder = tempfile.mkdtemp()",
                "T5Tokenizer.from_pretrained(folder)",
            ),
            title="vocabulary file is not where the model was loaded from; protobuf is not",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5", "sentencepiece", "without protobuf"),
        ),
        Reproduce(
            (f"{SETUP}GPT2Config().save_pretrained('model')", LOAD),
            title="vocabulary file is not where the model was loaded from; protobuf is not",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5", "without protobuf"),
        ),
        Reproduce(
            (
                f"{SETUP}BertConfig().save_pretrained('model')\n"
                "PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained('model')\n"
                "pathlib.Path('model/tokenizer.json').write_text('')",
                LOAD,
            ),
            title=r"`model/tokenizer\.json` is empty: .*; protobuf is not",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5", "without protobuf"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None  # words of the person's own
        hidden = next((raised for raised in failure.chain[1:] if not raised.is_a("ImportError")), None)
        if hidden is None:
            return None  # protobuf may be what is missing
        seen = evidence[ConfigurationFileProbe.name]
        said = (hidden.message.strip().splitlines() or [hidden.name])[0][:100]
        certainty = Certainty.CONFIRMED
        if _NO_FILE.search(hidden.message):
            told = "The tokenizer's vocabulary file is not where the model was loaded from"
            why = "Often only the weights were copied: call `tokenizer.save_pretrained(folder)` too."
        elif seen:
            wrong, why = unreadable(seen.facts)
            told = f"`{str(seen['path'])[-90:]}` {wrong}"
        else:
            told, why, certainty = f"The tokenizer cannot be built ({said})", "Look at its files.", Certainty.LIKELY
        return self.found(
            f"{told}; protobuf is not what is missing",
            certainty,
            what=f"One level down stands the true error: {said}.",
            why=f"{why} While it handled that error transformers looked for protobuf.",
            evidence=seen.seen,
        )
