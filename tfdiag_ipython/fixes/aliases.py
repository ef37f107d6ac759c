"""What a program's names stand for: modules and classes under other names, by its imports and by what they are bound to now."""

from __future__ import annotations

import ast
import contextlib
import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tfdiag_ipython.fixes.names import groups
from tfdiag_ipython.fixes.source import ALIASES, HELD
from tfdiag_ipython.probe import Scene


@contextlib.contextmanager
def resolved(scene: Scene) -> Iterator[None]:
    """Meanwhile edits know what the names of this program stand for (``calls_to``), and what its dictionaries hold."""
    before = ALIASES.set(aliases([cell.source for cell in scene.cells], scene.namespace))
    dictionaries = {name: value for name, value in list(scene.namespace.items()) if type(value) is dict}
    held = HELD.set({name: frozenset(key for key in value if type(key) is str) for name, value in dictionaries.items()})
    try:
        yield
    finally:
        ALIASES.reset(before)
        HELD.reset(held)


def aliases(sources: Iterable[str], namespace: Mapping[str, Any]) -> dict[str, str]:
    """The dotted name of each name that stands for a module, class or function: ``TA`` → ``transformers.TrainingArguments``.

    Imports name the module, too; what a name is bound to shows a class that was only assigned, or that stands in a ``partial``.
    """
    found = {name: real for name, value in list(namespace.items()) if (real := _name_of(value)) and real != name}
    for source in sources:
        found |= imported(source)
    return found


def imported(source: str) -> dict[str, str]:
    """The names that the imports of a cell bind, and the modules or names that they stand for."""
    found: dict[str, str] = {}
    for node in (inner for group in groups(source) for outer in group for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            found |= {
                one.asname or root: one.name if one.asname else root
                for one in node.names
                if (root := one.name.partition(".")[0])
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return found


def _name_of(value: Any) -> str:
    """The name of a class, of a class in a ``partial``, or of a module; no code of the object is run for it."""
    kind = type(value)
    while kind is functools.partial:
        value = value.func
        kind = type(value)
    if issubclass(kind, type):
        return str(type.__getattribute__(value, "__name__"))
    if issubclass(kind, types.ModuleType):
        return str(object.__getattribute__(value, "__dict__").get("__name__", ""))
    return ""
