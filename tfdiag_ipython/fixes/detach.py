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


def collecting_cell(cells: Sequence[Cell], name: str, *, lists: bool) -> str:
    """The label of the newest cell that appends one thing to this list, or adds to this tensor; empty where none does."""
    for cell in reversed(newest_versions(cells)):
        tree = _tree(cell.source)
        if tree is not None and any(_collects(node, name, lists) for node in ast.walk(tree)):
            return cell.label
    return ""


def needed_for_backward(source: str) -> set[str]:
    """The names that a cell with a backward pass does more with than to add to them: their graphs may be what it runs through."""
    tree = _tree(source) if "backward" in source else None
    if tree is None:
        return set()
    only_added: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            only_added.add(node.func.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
            only_added.update(node.args)
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return {node.id for node in names if node not in only_added}


def added_to(source: str) -> set[str]:
    """The names that a cell binds by ``name += …``."""
    tree = _tree(source)
    nodes = ast.walk(tree) if tree is not None else ()
    return {node.target.id for node in nodes if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)}


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(python_of(source) or "")
    except (SyntaxError, ValueError, RecursionError):
        return None


def _collects(node: ast.AST, name: str, lists: bool) -> bool:
    if isinstance(node, ast.AugAssign):
        adds = isinstance(node.op, ast.Add) and isinstance(node.target, ast.Name) and node.target.id == name
        return adds and not lists
    call = node if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords else None
    appends = call is not None and ast.unparse(call.func) == f"{name}.append"
    return lists and appends and call is not None and not isinstance(call.args[0], ast.Starred)


def detach_collected(source: str, name: str, *, lists: bool) -> str:
    """The source with ``.detach()`` behind what is appended to this list, or added to this tensor."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
            args = updated_node.args
            if not lists or dotted(original_node.func) != f"{name}.append" or len(args) != 1 or args[0].star:
                return updated_node
            return updated_node.with_changes(args=[args[0].with_changes(value=_detached(args[0].value))])

        def leave_AugAssign(self, original_node: cst.AugAssign, updated_node: cst.AugAssign) -> cst.AugAssign:
            adds = isinstance(original_node.operator, cst.AddAssign) and dotted(original_node.target) == name
            return (
                updated_node.with_changes(value=_detached(updated_node.value)) if adds and not lists else updated_node
            )

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


def detach(scene: Scene, name: str, *, lists: bool) -> LessMemory:
    """Plan the edit of the cell that collects into ``name``, after the cell that makes it anew where that is another one."""
    plan = edit_cells(scene, lambda source: detach_collected(source, name, lists=lists), anywhere=True)
    reruns = list(plan.reruns)
    if not any(_makes(cell, name) for cell in reruns):
        reruns[:0] = [cell for cell in newest_versions(scene.cells) if _makes(cell, name)][-1:]
    return LessMemory(plan.host, plan.edits, reruns, note=NOTE)


def _makes(cell: Cell, name: str) -> bool:
    """Whether the cell binds the name to something new, and does not only add to it."""
    tree = _tree(cell.source)
    if tree is None:
        return False
    added = {node.target for node in ast.walk(tree) if isinstance(node, ast.AugAssign)}
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return any(node.id == name and node not in added for node in names)
