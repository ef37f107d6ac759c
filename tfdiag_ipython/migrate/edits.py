"""What is done to a call, a name or an import; the rules for live failures use the same edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.data.changes import Argument
from tfdiag_ipython.fixes.source import transform, with_arguments, with_renamed

if TYPE_CHECKING:
    import libcst as cst

Edit = Callable[[Any], Any]


def keyword(call: cst.Call, name: str) -> cst.Arg | None:
    """The keyword argument of this name that a call gives."""
    return next((arg for arg in call.args if arg.keyword is not None and arg.keyword.value == name), None)


def source_of(node: cst.CSTNode) -> str:
    """A node as the person wrote it."""
    import libcst as cst

    return cst.Module([]).code_for_node(node)


def argument_edit(call: cst.Call, change: Argument) -> Edit | None:
    """The edit of a call that gives this argument; ``None`` where a person must see to it."""
    given = keyword(call, change.old)
    if given is None or (change.new and keyword(call, change.new) is not None):
        return None
    if change.edit == "rename":
        return lambda updated: with_renamed(updated, change.old, change.new)
    if change.edit in {"drop", "before"}:
        return lambda updated: with_arguments(updated, {change.old: None})
    written = change.values.get(source_of(given.value)) if change.edit == "replace" else None
    if written is None:
        return None
    name, _, value = written.partition("=")
    if not name:
        return lambda updated: with_arguments(updated, {change.old: None})
    if keyword(call, name) is not None:
        return None

    return lambda updated: with_renamed(updated, change.old, name, value)


def statement_before(source: str) -> Edit:
    """Puts a statement before another, which keeps the comments and blank lines in front of it."""
    import libcst as cst

    def edit(line: Any) -> Any:
        new = cst.ensure_type(cst.parse_statement(source), cst.SimpleStatementLine)
        if isinstance(line, cst.FlattenSentinel):
            first, *others = line.nodes
        else:
            first, others = line, []
        new = new.with_changes(leading_lines=first.leading_lines)
        return cst.FlattenSentinel([new, first.with_changes(leading_lines=[]), *others])

    return edit


def unwrapped(block: cst.With) -> Any:
    """The statements of a ``with`` block in its place, with the comments and blank lines in front of it."""
    import libcst as cst

    body = cst.ensure_type(block.body, cst.IndentedBlock).body
    first = body[0].with_changes(leading_lines=[*block.leading_lines, *getattr(body[0], "leading_lines", ())])
    return cst.FlattenSentinel([first, *body[1:]])


def import_edit(old: str, new: str, module: str = "") -> Edit:
    """Imports ``new`` for ``old`` in a ``from … import`` line, or (``module``) on a line of its own from another module.

    The other names, the comments and an ``as`` stay; a name that is there already is not imported twice.
    """
    import libcst as cst

    def changed(line: cst.SimpleStatementLine) -> list[cst.SimpleStatementLine]:
        statement = line.body[0]
        if not isinstance(statement, cst.ImportFrom) or isinstance(statement.names, cst.ImportStar):
            return [line]
        alias = next((alias for alias in statement.names if source_of(alias.name) == old), None)
        if alias is None:
            return [line]
        others = [name for name in statement.names if name is not alias]
        bound = f" as {source_of(alias.asname.name)}" if alias.asname else ""
        if module:
            added = cst.ensure_type(cst.parse_statement(f"from {module} import {new}{bound}"), cst.SimpleStatementLine)
            if not others:
                return [line.with_changes(body=added.body)]
            return [line.with_changes(body=[_importing(statement, others)]), added]
        if not bound and any(one.asname is None and source_of(one.name) == new for one in others):
            return [line.with_changes(body=[_importing(statement, others)])]
        names = [one.with_changes(name=cst.Name(new)) if one is alias else one for one in statement.names]
        return [line.with_changes(body=[statement.with_changes(names=names)])]

    def edit(updated: Any) -> Any:
        lines = list(updated.nodes) if isinstance(updated, cst.FlattenSentinel) else [updated]
        found = [new for line in lines for new in changed(line)]
        return found[0] if len(found) == 1 else cst.FlattenSentinel(found)

    return edit


def _importing(statement: cst.ImportFrom, names: list[cst.ImportAlias]) -> cst.ImportFrom:
    """The import with these of its names."""
    last = statement.names[-1].comma  # type: ignore[index]
    return statement.with_changes(names=[*names[:-1], names[-1].with_changes(comma=last)])


def module_edit(new: str) -> Edit:
    """Takes the names of a ``from … import`` line from another module."""
    import libcst as cst

    def edit(line: cst.SimpleStatementLine) -> cst.SimpleStatementLine:
        statement = cst.ensure_type(line.body[0], cst.ImportFrom)
        return line.with_changes(body=[statement.with_changes(module=cst.parse_expression(new))])

    return edit


def name_edit(new: str) -> Edit:
    """Writes another dotted name in the place of a name or attribute chain."""
    import libcst as cst

    return lambda updated: cst.parse_expression(new).with_changes(lpar=updated.lpar, rpar=updated.rpar)


def attribute_edit(new: str) -> Edit:
    """Writes another attribute of the same object."""
    import libcst as cst

    return lambda updated: updated.with_changes(attr=cst.Name(new))


def add_import(source: str, name: str) -> str:
    """The cell with ``import os`` or ``from transformers import X`` (``transformers.X``) among its imports."""
    from libcst.codemod import CodemodContext
    from libcst.codemod.visitors import AddImportsVisitor

    module, _, last = name.rpartition(".")
    context = CodemodContext()
    plain = not last[:1].isupper()
    AddImportsVisitor.add_needed_import(context, name if plain else module, None if plain else last)
    return transform(source, lambda tree: AddImportsVisitor(context).transform_module(tree))
