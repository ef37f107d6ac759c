"""Values of expressions in a frame, read without running anything of the person's: no property, no ``__getattr__``, no call.

Only PyTorch's own steps on its own tensors are followed: views by constant subscripts, and methods that keep the values.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.probes._host_indices import is_batch

UNKNOWN: Any = object()
"""The value of what cannot be read."""
_SAME_SHAPE = frozenset(
    {"clone", "contiguous", "cpu", "cuda", "detach", "double", "float", "half", "int", "long", "to"}
)
_SAME_VALUES = _SAME_SHAPE | {
    "expand",
    "expand_as",
    "flatten",
    "permute",
    "ravel",
    "repeat",
    "reshape",
    "reshape_as",
    "squeeze",
}
_SAME_VALUES |= {"t", "transpose", "unsqueeze", "view", "view_as"}


class FrameValues:
    """Reads names, attributes, items and literal tensors of one frame."""

    def __init__(self, names: Mapping[str, Any], globals_: Mapping[str, Any], torch: Any) -> None:
        self._scopes = (names, globals_)
        self._torch = torch

    def is_tensor(self, value: Any) -> bool:
        """Whether it is one of PyTorch's own tensors: a subclass may do anything when it is asked."""
        return type(value) in (self._torch.Tensor, self._torch.nn.Parameter)

    def read(self, node: ast.expr) -> Any:
        """The value of an expression; ``UNKNOWN`` where only running it would tell."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in self._scopes if node.id in scope), UNKNOWN)
        if isinstance(node, ast.Attribute):
            return self._member(self.read(node.value), node.attr)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self.read(node.operand)
            return -number if type(number) is int else UNKNOWN
        if isinstance(node, (ast.Tuple, ast.List)):
            parts = [self.read(part) for part in node.elts]
            return tuple(parts) if isinstance(node, ast.Tuple) else parts
        if isinstance(node, ast.Slice):
            ends = [None if end is None else self.read(end) for end in (node.lower, node.upper, node.step)]
            return UNKNOWN if any(end is UNKNOWN for end in ends) else slice(*ends)
        if isinstance(node, ast.Subscript):
            return self._item(self.read(node.value), self.read(node.slice))
        if isinstance(node, ast.Call):
            literal = self._literal(node)
            return literal if literal is not UNKNOWN else self._kept(node, _SAME_SHAPE)[0]
        return UNKNOWN

    def source(self, node: ast.expr) -> tuple[Any, ast.expr]:
        """The tensor that an expression takes all its values from, and the expression of that tensor: ``labels`` of ``labels[:, None].cuda()``."""
        if isinstance(node, ast.Call):
            literal = self._literal(node)
            return (literal, node) if literal is not UNKNOWN else self._kept(node, _SAME_VALUES)
        if isinstance(node, ast.Subscript) and _adds_dimensions(node.slice):
            value, inner = self.source(node.value)
            if self.is_tensor(value):
                return value, inner
        return self.read(node), node

    def _kept(self, node: ast.Call, methods: frozenset[str]) -> tuple[Any, ast.expr]:
        called = node.func
        if not isinstance(called, ast.Attribute) or called.attr not in methods:
            return UNKNOWN, node
        value, inner = self.source(called.value) if methods is _SAME_VALUES else (self.read(called.value), called.value)
        return (value, inner) if self.is_tensor(value) else (UNKNOWN, node)

    def _literal(self, node: ast.Call) -> Any:
        """A tensor that the expression spells out: ``torch.tensor([[5], [0]])``."""
        makers = (self._torch.tensor, self._torch.as_tensor, self._torch.LongTensor)
        made = self.read(node.func)
        if not any(made is maker for maker in makers) or len(node.args) != 1 or node.keywords:
            return UNKNOWN
        try:
            return self._torch.tensor(ast.literal_eval(node.args[0]), device="cpu")
        except Exception:  # not a literal, or none that makes a tensor
            return UNKNOWN

    def _member(self, owner: Any, name: str) -> Any:
        if owner is UNKNOWN or is_batch(type(owner)):
            return self._item(owner, name)
        if self.is_tensor(owner):
            return owner if name == "data" else UNKNOWN
        if issubclass(type(owner), self._torch.nn.Module):
            members = vars(owner)
            for group in ("_parameters", "_buffers", "_modules"):
                if name in (members.get(group) or ()):
                    return members[group][name]
        found = inspect.getattr_static(owner, name, UNKNOWN)  # a module's, an object's own, or its class's
        return UNKNOWN if inspect.getattr_static(type(found), "__get__", None) is not None else found

    def _item(self, owner: Any, key: Any) -> Any:
        if is_batch(type(owner)):
            owner = vars(owner).get("data")
        if issubclass(type(owner), dict) and type(key) in (str, int):
            return dict.get(owner, key, UNKNOWN)
        if type(owner) in (list, tuple) and type(key) is int:
            return owner[key] if -len(owner) <= key < len(owner) else UNKNOWN
        parts = key if type(key) is tuple else (key,)
        plain = all(type(part) in (int, slice, type(None), type(Ellipsis)) for part in parts)
        if self.is_tensor(owner) and plain:
            if owner.device.type != "cpu":  # its shape is wanted, and the device may be dead
                owner = self._torch.empty_like(owner, device="meta")
            try:
                with self._torch.no_grad():
                    return owner[key]
            except Exception:  # this very subscript may be what failed
                return UNKNOWN
        return UNKNOWN


def _adds_dimensions(key: ast.expr) -> bool:
    """Whether a subscript leaves out nothing: ``[:, None]``."""
    parts = key.elts if isinstance(key, ast.Tuple) else [key]
    return all(
        part.lower is part.upper is part.step is None
        if isinstance(part, ast.Slice)
        else isinstance(part, ast.Constant) and part.value in (None, Ellipsis)
        for part in parts
    )
