"""Put a whole statement into a cell, at the place where it must stand; see :mod:`tfdiag_ipython.fixes.source` for what survives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import dotted, transform

if TYPE_CHECKING:
    import libcst as cst


def insert_after_assignment(source: str, name: str, statement: str) -> str:
    """Put ``statement`` after the last top-level statement that binds ``name``; unchanged where none does."""
    return _insert(source, lambda node: name in _bound(node), statement, after=True)


def insert_before_call(source: str, name: str, statement: str) -> str:
    """Put ``statement`` (or several, a line each) before the first top-level statement that calls ``name`` or a method of it, or passes it on."""
    return _insert(source, lambda node: _calls(node, name), statement, after=False)


def _insert(source: str, wanted: Callable[[cst.CSTNode], bool], statement: str, *, after: bool) -> str:
    import libcst as cst

    def edit(tree: cst.Module) -> cst.Module:
        places = [number for number, node in enumerate(tree.body) if wanted(node)]
        if not places:
            return tree
        new = list(cst.parse_module(statement).body)
        place = places[-1] + 1 if after else places[0]
        body = list(tree.body)
        if not after and isinstance(new[0], cst.SimpleStatementLine):  # blank lines and comments stay in front
            old = body[place]
            new[0] = new[0].with_changes(leading_lines=getattr(old, "leading_lines", ()))
            body[place] = old.with_changes(leading_lines=[])
        return tree.with_changes(body=[*body[:place], *new, *body[place:]])

    return transform(source, edit)


def _bound(node: cst.CSTNode) -> set[str]:
    """Names that a simple statement assigns."""
    import libcst as cst

    found: set[str] = set()
    for small in node.body if isinstance(node, cst.SimpleStatementLine) else ():
        targets: list[cst.BaseExpression] = []
        if isinstance(small, cst.Assign):
            targets = [target.target for target in small.targets]
        elif isinstance(small, (cst.AnnAssign, cst.AugAssign)):
            targets = [small.target]
        for target in targets:
            elements = target.elements if isinstance(target, (cst.Tuple, cst.List)) else ()
            found.update(dotted(part) for part in (target, *(element.value for element in elements)))
    return found - {""}


def _calls(node: cst.CSTNode, name: str) -> bool:
    import libcst as cst

    class Finder(cst.CSTVisitor):
        found = False

        def visit_Call(self, call: cst.Call) -> None:
            callee = dotted(call.func)
            passed = any(dotted(arg.value) == name for arg in call.args)
            self.found = self.found or callee == name or callee.startswith(f"{name}.") or passed

    finder = Finder()
    node.visit(finder)
    return finder.found
