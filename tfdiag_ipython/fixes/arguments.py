"""Put a method call behind one argument of a call: ``model(ids)`` → ``model(ids.long())``."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst

DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
"""The name of a function as a call can be found by: ``nn.CrossEntropyLoss()`` in ``nn.CrossEntropyLoss()(x, y)`` is none."""


def with_behind(call: cst.Call, keyword: str, place: int, method: str) -> cst.Call:
    """The call with ``method`` (``.long()``) behind its argument of this name, or (no name) at this place.

    ``**name`` is one that a mapping holds which is spread into the call; the mapping itself stays as it is.
    """
    import libcst as cst

    args = list(call.args)
    for number in _chosen(call, keyword, place):
        value = args[number].value
        if not isinstance(value, (cst.Name, cst.Attribute, cst.Call, cst.Subscript)):
            value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        code = cst.Module([]).code_for_node(value)
        written = f"{code}{method}"
        if keyword.startswith("**"):
            written = f'{{**{code}, "{keyword[2:]}": {code}["{keyword[2:]}"]{method}}}'
        parsed = cst.parse_expression(f"({written})").with_changes(lpar=(), rpar=())  # it may stand on several lines
        args[number] = args[number].with_changes(value=parsed)
    return call.with_changes(args=args)


def gives(call: cst.Call, keyword: str, place: int, written: str) -> bool:
    """Whether this argument of the call is written so (as ``ast.unparse`` has it, its first 60 characters): another call may give another."""
    import libcst as cst

    chosen = _chosen(call, keyword, place)
    if not chosen:
        return False
    code = cst.Module([]).code_for_node(call.args[chosen[0]].value)
    return ast.unparse(ast.parse(f"({code})", mode="eval"))[:60] == written


def _chosen(call: cst.Call, keyword: str, place: int) -> list[int]:
    """The places of the arguments that are meant; mostly one."""
    if keyword.startswith("**"):
        return [number for number, arg in enumerate(call.args) if arg.star == "**"]
    names = [arg.keyword.value if arg.keyword is not None else arg.star for arg in call.args]
    return [number for number, name in enumerate(names) if name == keyword and (keyword or number == place)]
