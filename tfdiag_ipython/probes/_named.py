"""What a person names behind ``%tfdiag probe NAME``: variables, attributes and items; nothing is called."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any


def named(namespace: Mapping[str, Any], text: str, usage: str) -> Any:
    """The value of a name, attribute or item (``batch["ids"]``, ``trainer.model``); raises ``LookupError`` with one sentence."""
    try:
        return _value(ast.parse(text, mode="eval").body, namespace)
    except SyntaxError:
        raise LookupError(f"`{text}` is no name of a variable: `{usage}`") from None
    except Exception as error:
        raise LookupError(f"`{text}` cannot be read ({type(error).__name__}): `{usage}`") from None


def _value(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, namespace), node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return _value(node.value, namespace)[node.slice.value]
    raise SyntaxError("only names, attributes and items")
