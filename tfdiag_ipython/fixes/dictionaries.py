"""Arguments that calls take from a dictionary of the program, ``TrainingArguments(**options)``: another key where it is written."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.fixes.names import groups
from tfdiag_ipython.fixes.source import dotted, edit_calls, transform
from tfdiag_ipython.probe import Cell

if TYPE_CHECKING:
    import libcst as cst


def spread_alone(cells: Sequence[Cell], wanted: Callable[[cst.Call], bool]) -> set[str]:
    """The variables that wanted calls spread by ``**``, and that the cells read nowhere else: a new key there means nothing else."""
    spread: list[str] = []

    def look(call: cst.Call) -> cst.Call:
        spread.extend(dotted(arg.value) for arg in call.args if arg.star == "**")
        return call

    for source in {cell.source for cell in cells}:
        edit_calls(source, wanted, look)
    read = [
        node.id
        for source in {cell.source for cell in cells}
        for group in groups(source)
        for outer in group
        for node in ast.walk(outer)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]
    return {name for name in spread if name and read.count(name) == spread.count(name)}


def rename_key(source: str, names: set[str], old: str, new: str) -> str:
    """The cell with ``new`` for the key ``old`` in the dictionaries that it gives to these names by ``{…}`` or ``dict(…)``."""
    import libcst as cst

    def renamed(value: cst.BaseExpression) -> cst.BaseExpression:
        if isinstance(value, cst.Call) and dotted(value.func) == "dict":
            args = [
                arg.with_changes(keyword=cst.Name(new)) if arg.keyword and arg.keyword.value == old else arg
                for arg in value.args
            ]
            return value.with_changes(args=args)
        if isinstance(value, cst.Dict):
            return value.with_changes(elements=[_element(one, old, new) for one in value.elements])
        return value

    class Editor(cst.CSTTransformer):
        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            if any(dotted(target.target) in names for target in original_node.targets):
                return updated_node.with_changes(value=renamed(updated_node.value))
            return updated_node

    return transform(source, lambda tree: tree.visit(Editor()))


def _element(element: Any, old: str, new: str) -> Any:
    import libcst as cst

    key = getattr(element, "key", None)
    if not isinstance(key, cst.SimpleString) or key.evaluated_value != old:
        return element
    return element.with_changes(key=key.with_changes(value=key.value.replace(old, new)))
