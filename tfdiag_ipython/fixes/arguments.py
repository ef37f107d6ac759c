"""Put a method call behind one argument of a call: ``model(ids)`` → ``model(ids.long())``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst


def with_behind(call: cst.Call, keyword: str, place: int, method: str) -> cst.Call:
    """The call with ``method`` (``.long()``) behind its argument of this name, or (no name) at this place.

    ``**name`` is one that a mapping holds which is spread into the call; the mapping itself stays as it is.
    """
    import libcst as cst

    args = []
    for number, arg in enumerate(call.args):
        name = arg.keyword.value if arg.keyword is not None else ""
        wanted = name == keyword if keyword else number == place and not name and not arg.star
        if keyword.startswith("**"):
            wanted = arg.star == "**"
        if not wanted:
            args.append(arg)
            continue
        value = arg.value
        if not isinstance(value, (cst.Name, cst.Attribute, cst.Call, cst.Subscript)):
            value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        code = cst.Module([]).code_for_node(value)
        written = f"{code}{method}"
        if keyword.startswith("**"):
            written = f'{{**{code}, "{keyword[2:]}": {code}["{keyword[2:]}"]{method}}}'
        args.append(arg.with_changes(value=cst.parse_expression(written)))
    return call.with_changes(args=args)


def gives(call: cst.Call, keyword: str, place: int, written: str) -> bool:
    """Whether this argument of the call is written so (as ``ast.unparse`` has it, its first 60 characters): another call may give another."""
    import libcst as cst

    for number, arg in enumerate(call.args):
        name = arg.keyword.value if arg.keyword is not None else ""
        if keyword.startswith("**"):
            wanted = arg.star == "**"
        else:
            wanted = name == keyword if keyword else number == place and not name and not arg.star
        if wanted:
            code = cst.Module([]).code_for_node(arg.value)
            return ast.unparse(ast.parse(f"({code})", mode="eval"))[:60] == written
    return False
