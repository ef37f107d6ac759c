"""Values that a person names behind ``%tfdiag probe``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any


def named_value(namespace: Mapping[str, Any], text: str) -> Any:
    """The value of a name, attribute or item (``batch["ids"]``, ``trainer.model``); nothing is called.

    Raises ``LookupError``, with one sentence, for anything else and for what cannot be read.
    """
    try:
        return _value(ast.parse(text, mode="eval").body, namespace)
    except SyntaxError:
        raise LookupError(f"`{text}` is no name of a variable") from None
    except NameError:
        raise LookupError(f"there is no variable `{text}`") from None
    except Exception as error:
        raise LookupError(f"`{text}` cannot be read ({type(error).__name__})") from None


def _value(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in namespace:
            raise NameError(node.id)
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, namespace), node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return _value(node.value, namespace)[node.slice.value]
    raise SyntaxError("only names, attributes and items")
