"""Keep results without the graphs of their forward passes: ``kept.append(result)`` → ``kept.append(result.detach())``."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.cells import edit_cells, newest_versions
from tfdiag_ipython.fixes.less_memory import LessMemory
from tfdiag_ipython.fixes.source import dotted, python_of, transform
from tfdiag_ipython.probe import Cell, Scene

if TYPE_CHECKING:
    import libcst as cst

NOTE = "The same numbers are kept. No gradient can flow back through them."


def collecting_cell(cells: Sequence[Cell], name: str) -> str:
    """The label of the newest cell that appends to this list or adds to this variable; empty where none does."""
    for cell in reversed(newest_versions(cells)):
        try:
            tree = ast.parse(python_of(cell.source) or "")
        except (SyntaxError, ValueError, RecursionError):
            continue
        if any(_collects(node, name) for node in ast.walk(tree)):
            return cell.label
    return ""


def _collects(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name) and node.target.id == name
    call = node.func if isinstance(node, ast.Call) and len(node.args) == 1 else None
    return isinstance(call, ast.Attribute) and ast.unparse(call) == f"{name}.append"


def detach_collected(source: str, name: str) -> str:
    """The source with ``.detach()`` behind what is appended to this list or added to this variable."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
            if dotted(original_node.func) != f"{name}.append" or len(updated_node.args) != 1:
                return updated_node
            value = updated_node.args[0].value
            return updated_node.with_changes(args=[updated_node.args[0].with_changes(value=_detached(value))])

        def leave_AugAssign(self, original_node: cst.AugAssign, updated_node: cst.AugAssign) -> cst.AugAssign:
            adds = isinstance(original_node.operator, cst.AddAssign) and dotted(original_node.target) == name
            return updated_node.with_changes(value=_detached(updated_node.value)) if adds else updated_node

    return transform(source, lambda tree: tree.visit(Editor()))


def _detached(value: cst.BaseExpression) -> cst.BaseExpression:
    import libcst as cst

    inner = value
    while isinstance(inner, (cst.Call, cst.Attribute)):
        if isinstance(inner, cst.Attribute) and inner.attr.value in {"detach", "item", "tolist", "numpy"}:
            return value
        inner = inner.func if isinstance(inner, cst.Call) else inner.value
    plain = isinstance(value, (cst.Name, cst.Attribute, cst.Call, cst.Subscript)) or value.lpar
    if not plain:
        value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.Call(cst.Attribute(value, cst.Name("detach")))


def detach(scene: Scene, name: str) -> LessMemory:
    """Plan the edit of the cell that collects into ``name``, after the cell that makes it anew where that is another one."""
    plan = edit_cells(scene, lambda source: detach_collected(source, name))
    reruns = list(plan.reruns)
    if not any(_makes(cell, name) for cell in reruns):
        reruns[:0] = [cell for cell in newest_versions(scene.cells) if _makes(cell, name)][-1:]
    return LessMemory(plan.host, plan.edits, reruns, note=NOTE)


def _makes(cell: Cell, name: str) -> bool:
    """Whether the cell binds the name to something new, and does not only add to it."""
    try:
        tree = ast.parse(python_of(cell.source) or "")
    except (SyntaxError, ValueError, RecursionError):
        return False
    added = {node.target for node in ast.walk(tree) if isinstance(node, ast.AugAssign)}
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return any(node.id == name and node not in added for node in names)
