"""What a cell needs of the notebook: the names that it reads, and those that the notebook's functions among them read in turn."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any

from tfdiag_ipython.fixes.names import names_used

MOST = 1_000
"""Names that are followed."""


def names_needed(source: str, namespace: Mapping[str, Any]) -> frozenset[str]:
    waiting = list(names_used(source)[1])
    found: set[str] = set()
    while waiting and len(found) < MOST:
        name = waiting.pop()
        value: Any = namespace.get(name)
        if name in found:
            continue
        found.add(name)
        own = type(value) is types.FunctionType and value.__globals__.get("__name__") == namespace.get("__name__")
        waiting.extend(_names_in(value.__code__) if own else ())
    return frozenset(found)


def _names_in(code: types.CodeType) -> Iterator[str]:
    """The global names of a function and of those in it, attributes among them: these two stand in one place."""
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names_in(constant)
