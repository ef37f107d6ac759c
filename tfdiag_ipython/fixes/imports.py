"""Edits of a cell's imports: a name that moved to another module, a module that moved to another path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import called, dotted, transform

if TYPE_CHECKING:
    import libcst as cst


def move_symbol(source: str, old: str, new: str, *, module: str, new_module: str) -> str:
    """Take ``new`` from ``new_module`` wherever the cell takes ``old`` from ``module``; the other names of the import stay.

    Handles ``from module import old`` (also among others, and with ``as``) and ``module.old``; uses of the name follow.
    """
    import libcst as cst
    from libcst.codemod import CodemodContext
    from libcst.codemod.visitors import AddImportsVisitor

    target = cst.ensure_type(cst.parse_statement(f"from {new_module} import {new}"), cst.SimpleStatementLine)

    def taken(statement: cst.BaseSmallStatement) -> cst.ImportAlias | None:
        if not isinstance(statement, cst.ImportFrom) or isinstance(statement.names, cst.ImportStar):
            return None
        if statement.module is None or not _inside(dotted(statement.module), module):
            return None
        return next((alias for alias in statement.names if dotted(alias.name) == old), None)

    class Editor(cst.CSTTransformer):
        def __init__(self) -> None:
            self.attribute = self.moved = False
            self.labels: set[int] = set()

        def visit_Attribute(self, node: cst.Attribute) -> None:
            self.labels.add(id(node.attr))

        def visit_Arg(self, node: cst.Arg) -> None:
            self.labels.add(id(node.keyword))

        def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
            return False

        def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
            if original_node.attr.value == old and called(original_node.value) == module:
                self.attribute = True
                return cst.parse_expression(f"{new_module}.{new}")
            return updated_node

        def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
            if original_node.value != old or id(original_node) in self.labels or not self.moved:
                return updated_node
            return updated_node.with_changes(value=new)

        def leave_SimpleStatementLine(
            self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
        ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine]:
            statement = updated_node.body[0]
            alias = taken(statement)
            if alias is None or len(updated_node.body) > 1:
                return updated_node
            statement = cst.ensure_type(statement, cst.ImportFrom)
            names = [name for name in cst.ensure_type(statement, cst.ImportFrom).names if name is not alias]  # type: ignore[union-attr]
            self.moved = self.moved or alias.asname is None
            added_name = cst.ImportAlias(cst.Name(new), asname=alias.asname)
            added = cst.ensure_type(target.body[0], cst.ImportFrom).with_changes(names=[added_name])
            if not names:
                return updated_node.with_changes(body=[added])
            names[-1] = names[-1].with_changes(comma=statement.names[-1].comma)  # type: ignore[index]
            kept = updated_node.with_changes(body=[statement.with_changes(names=names)])
            return cst.FlattenSentinel([kept, cst.SimpleStatementLine([added])])

    def edit(tree: cst.Module) -> cst.Module:
        editor = Editor()
        changed = tree.visit(editor)
        if not editor.attribute:
            return changed
        context = CodemodContext()
        AddImportsVisitor.add_needed_import(context, new_module)
        return AddImportsVisitor(context).transform_module(changed)

    return transform(source, edit)


def move_module(source: str, old: str, new: str) -> str:
    """Write the module path ``new`` for ``old`` in the cell's imports and in dotted uses."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
            return not node.relative

        def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
            return cst.parse_expression(new) if called(original_node) == old else updated_node

    return transform(source, lambda tree: tree.visit(Editor()))


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
