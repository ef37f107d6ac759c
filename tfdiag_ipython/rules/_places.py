"""Where a failure went through: for messages so general that only their place tells whose they are."""

from __future__ import annotations

import re

from tfdiag_ipython.failure import Failure, Raised

HUB_CLIENT = re.compile(
    r"huggingface_hub[/\\.]|transformers[/\\](?:utils[/\\]hub|file_utils|configuration_utils)|\bhf_hub_download\b"
)
# other libraries have a package `transformers` inside
_EDGE = r"(?:^|(?<!paddlenlp)(?<!mindnlp)[/\\\s\"(])"
TRANSFORMERS = re.compile(rf"{_EDGE}transformers[/\\]\w|(?<!paddlenlp\.)(?<!mindnlp\.)\btransformers\.models\.")
TORCH = re.compile(rf"{_EDGE}(?:torch|safetensors|transformers|accelerate)[/\\]\w|\b(?:torch|safetensors)\b")


def own(failure: Failure, place: re.Pattern[str] = TORCH) -> bool:
    """Whether a live failure is the person's own: its frames are known, and none is of the libraries that ``place`` names."""
    return not failure.stored and bool(failure.frames) and not passes(failure, place)


def raised_by_hand(raised: Raised) -> bool:
    """Whether a `raise` in a cell made this exception: its words are then the person's, even where a library has the same."""
    last = raised.frames[-1] if raised.frames else None
    return last is not None and last.file.startswith("<cell") and re.search(r"\braise\s+\w", last.source) is not None


def plain(failure: Failure) -> bool:
    """Whether the traceback, live or stored, shows that Transformers took no part; a last line alone does not."""
    return bool(failure.frames) and not passes(failure, TRANSFORMERS)


def passes(failure: Failure, place: re.Pattern[str]) -> bool:
    """Whether a file of any traceback of the chain fits ``place``; of stored text, any of its lines."""
    files = (frame.file for raised in failure.chain for frame in raised.frames)
    return any(place.search(file) for file in files) or bool(failure.text and place.search(failure.text))
