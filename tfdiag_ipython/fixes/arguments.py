"""Put a method call behind one argument of a call: ``model(ids)`` → ``model(ids.long())``."""

from __future__ import annotations

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
