"""Regular expressions as Python's own parser reads them."""

from __future__ import annotations

import importlib
import re
from typing import Any


def parsed(pattern: re.Pattern[str]) -> Any:
    """The tree of a pattern: pairs of an operation and its argument (``re._parser``, up to Python 3.10 ``sre_parse``).

    Warnings are not switched off meanwhile: rules are indexed beside the person's program, and ``catch_warnings`` of one thread puts back
    what it finds for all.
    """
    try:
        parser: Any = importlib.import_module("re._parser")
    except ImportError:
        parser = importlib.import_module("sre_parse")
    return parser.parse(pattern.pattern, pattern.flags)
