"""Change the size of a layer where a cell makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import dotted, transform

if TYPE_CHECKING:
    import libcst as cst


def set_in_features(source: str, attribute: str, old: int, new: int) -> str:
    """``self.attribute = nn.Linear(new, …)`` for ``nn.Linear(old, …)``."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            target, call = updated_node.targets[0].target, updated_node.value
            named = isinstance(target, cst.Attribute) and target.attr.value == attribute
            if not named or not isinstance(call, cst.Call) or dotted(call.func).rpartition(".")[2] != "Linear":
                return updated_node
            first = call.args[0] if call.args else None
            if (
                first is None
                or first.keyword
                or not isinstance(first.value, cst.Integer)
                or first.value.evaluated_value != old
            ):
                return updated_node
            args = [first.with_changes(value=cst.Integer(str(new))), *call.args[1:]]
            return updated_node.with_changes(value=call.with_changes(args=args))

    return transform(source, lambda tree: tree.visit(Editor()))
