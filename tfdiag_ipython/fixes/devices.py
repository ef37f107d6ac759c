"""Let a program ask for the GPU where there is one, and for the CPU elsewhere."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import dotted, transform

if TYPE_CHECKING:
    import libcst as cst

CHOICE = '"cuda" if torch.cuda.is_available() else "cpu"'
_TAKE = ("to", "device", "set_default_device", "Generator")
"""Methods and functions whose first argument is a device."""
_NAMES_DEVICE = re.compile(r"(?i)dev|gpu|cuda")
"""Names of variables and parameters that hold a device, not a backend or a color."""


def choose_device(source: str, *, imports: bool = False, without: Collection[str] = ()) -> str:
    """The cell with the choice wherever it says ``"cuda"`` for a device or calls ``.cuda()``; ``imports``: with ``import torch`` before it.

    ``without`` names what has no method ``to``: objects of a class of one's own, whose ``cuda`` stays.
    """
    import libcst as cst
    from libcst.codemod import CodemodContext
    from libcst.codemod.visitors import AddImportsVisitor

    choice = cst.parse_expression(CHOICE)

    def names_gpu(value: cst.BaseExpression) -> bool:
        return isinstance(value, cst.SimpleString) and value.evaluated_value in ("cuda", "cuda:0")

    def holds_device(target: cst.BaseExpression) -> bool:
        return _NAMES_DEVICE.search(dotted(target)) is not None

    def first(value: cst.BaseExpression) -> bool:
        return names_gpu(value) or (isinstance(value, cst.Integer) and value.evaluated_value == 0)

    class Editor(cst.CSTTransformer):
        def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
            func, args = updated_node.func, list(updated_node.args)
            name = func.attr.value if isinstance(func, cst.Attribute) else dotted(func)
            if name == "cuda" and isinstance(func, cst.Attribute) and dotted(func.value) != "torch":
                if dotted(func.value) in without:
                    return updated_node
                if args and not (len(args) == 1 and not args[0].star and first(args[0].value)):
                    return updated_node
                return updated_node.with_changes(func=func.with_changes(attr=cst.Name("to")), args=[cst.Arg(choice)])
            if dotted(func).startswith("torch.cuda."):
                return updated_node  # contexts and questions that only CUDA answers
            for number, arg in enumerate(args):
                word = arg.keyword.value if arg.keyword else ""
                place = word in ("device", "device_map") or (not word and number == 0 and name in _TAKE)
                counted = name == "pipeline" and word == "device" and first(arg.value)
                if not arg.star and ((place and names_gpu(arg.value)) or counted):
                    args[number] = arg.with_changes(value=choice)
            return updated_node.with_changes(args=args)

        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            named = any(holds_device(target.target) for target in updated_node.targets)
            return updated_node.with_changes(value=choice) if named and names_gpu(updated_node.value) else updated_node

        def leave_AnnAssign(self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign) -> cst.AnnAssign:
            value = updated_node.value
            named = holds_device(updated_node.target)
            return updated_node.with_changes(value=choice) if named and value and names_gpu(value) else updated_node

        def leave_DictElement(
            self, original_node: cst.DictElement, updated_node: cst.DictElement
        ) -> cst.BaseDictElement:
            key = updated_node.key
            named = isinstance(key, cst.SimpleString) and key.evaluated_value in ("device", "device_map")
            return updated_node.with_changes(value=choice) if named and names_gpu(updated_node.value) else updated_node

        def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> cst.Param:
            default = updated_node.default
            named = holds_device(updated_node.name)
            return (
                updated_node.with_changes(default=choice) if named and default and names_gpu(default) else updated_node
            )

    def edit(tree: cst.Module) -> cst.Module:
        changed = tree.visit(Editor())
        if not imports or changed.deep_equals(tree):
            return changed
        context = CodemodContext()
        AddImportsVisitor.add_needed_import(context, "torch")
        return AddImportsVisitor(context).transform_module(changed)

    return transform(source, edit)
