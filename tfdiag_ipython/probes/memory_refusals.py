"""What an exception says that refused memory, in words for a table, and how much was asked for."""

from __future__ import annotations

import re

from tfdiag_ipython.failure import Failure, Raised
from tfdiag_ipython.shortage import told_by

_WANTED = re.compile(r"[Tt]ried to allocate (\d+(?:\.\d+)?) ?([KMGT]?)i?B?")
_PLACE = re.compile(r"^\[enforce fail at [^\]]*\] [^.]*\. ")
"""Where in PyTorch's own source the host's allocator gave up."""
LONGEST = 120
"""Characters of an error that are shown."""


def refusal(error: BaseException) -> str:
    """The first words of what refused memory, of this exception or of one that it was raised from; empty for another error."""
    found = told_by(Failure.from_exception(error, versions={}))
    return _words(found[0]) if found is not None else ""


def wanted(told: str) -> int:
    """Bytes that were asked for, by the words of :func:`refusal`; 0 where they do not say."""
    found = _WANTED.search(told)
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")) if found else 0


def words(error: BaseException) -> str:
    """The first line of an error with its kind, cut to be read in a table."""
    return _words(Failure.from_exception(error, versions={}).top)


def _words(raised: Raised) -> str:
    lines = raised.message.strip().splitlines()
    told = f"{raised.name}: {_PLACE.sub('', lines[0])}" if lines else raised.name
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
