"""Edits of Python source that keep comments, formatting, IPython magics and ``!`` lines (LibCST does the editing).

The functions here take a cell's source and return it changed, or unchanged when there is nothing to change; source that is not
Python (``%%bash``, a syntax error) is returned as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import libcst as cst

_MAGIC_LINE = re.compile(r"^(?P<indent>[ \t]*)(?P<magic>(?:%(?!%)|!|\?|[\w.]+\?{1,2}\s*$|[\w., ]+=\s*[%!]\s*\w).*)$")
_MARK = "__tfdiag_line_{}__"
_MARKED = re.compile(r"__tfdiag_line_(\d+)__")
PYTHON_CELL_MAGICS = frozenset({"time", "timeit", "capture", "prun", "tfdiag", "debug"})
"""Cell magics whose body is Python."""


def transform(source: str, edit: Callable[[cst.Module], cst.Module]) -> str:
    """Apply a LibCST edit to the Python of a cell; whatever is IPython's own survives to the letter."""
    import libcst as cst

    head, body, lines = _mask(source)
    if body is None:
        return source
    try:
        tree = cst.parse_module(body)
    except (cst.ParserSyntaxError, RecursionError):
        return source
    changed = edit(tree).code
    if changed == body:
        return source
    return head + _MARKED.sub(lambda match: lines[int(match[1])], changed)


def python_of(source: str) -> str | None:
    """The cell's Python, with each of IPython's own lines as a harmless name; ``None`` when the cell is not Python."""
    return _mask(source)[1]


def _mask(source: str) -> tuple[str, str | None, list[str]]:
    """Cell-magic head, Python body with IPython's lines replaced by names, and those lines."""
    head: list[str] = []
    rest = source.splitlines(keepends=True)
    while rest and (rest[0].startswith("%%") or (head and not rest[0].strip())):
        if rest[0].startswith("%%") and rest[0][2:].split()[:1] not in [[name] for name in PYTHON_CELL_MAGICS]:
            return source, None, []
        head.append(rest.pop(0))
    lines: list[str] = []
    body: list[str] = []
    pending = ""
    for line in rest:
        text = pending + line
        match = (
            _MAGIC_LINE.match(text.split("\n")[0].rstrip("\n"))
            if not pending
            else _MAGIC_LINE.match(text.split("\n")[0])
        )
        if match is None:
            body.append(line)
            continue
        if text.rstrip("\n").endswith("\\"):
            pending = text
            continue
        indent = match["indent"]
        end = "\n" if text.endswith("\n") else ""
        body.append(f"{indent}{_MARK.format(len(lines))}{end}")
        lines.append(text[len(indent) :].rstrip("\n"))
        pending = ""
    body.append(pending)
    return "".join(head), "".join(body), lines


def dotted(node: cst.BaseExpression) -> str:
    """``a.b.c`` of a name or attribute chain; empty for anything else."""
    import libcst as cst

    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


def edit_calls(
    source: str, wanted: Callable[[cst.Call], bool], change: Callable[[cst.Call], cst.BaseExpression]
) -> str:
    """Replace every call that ``wanted`` accepts by what ``change`` returns."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
            return change(updated_node) if wanted(original_node) else updated_node

    return transform(source, lambda tree: tree.visit(Editor()))


def calls_to(*names: str) -> Callable[[cst.Call], bool]:
    """Accepts calls whose callee ends in one of these dotted names (``Trainer``, ``AutoModel.from_pretrained``)."""

    def accepts(call: cst.Call) -> bool:
        callee = dotted(call.func)
        return any(callee == name or callee.endswith(f".{name}") for name in names)

    return accepts


def set_arguments(source: str, wanted: Callable[[cst.Call], bool], arguments: Mapping[str, str | None]) -> str:
    """Set keyword arguments (values are Python source) of the wanted calls; ``None`` removes one."""

    def change(call: cst.Call) -> cst.Call:
        return with_arguments(call, arguments)

    return edit_calls(source, wanted, change)


def with_arguments(call: cst.Call, arguments: Mapping[str, str | None]) -> cst.Call:
    """The call with these keyword arguments set, replaced or (``None``) removed; its layout is kept."""
    import libcst as cst

    left: dict[str, str | None] = dict(arguments)
    args: list[cst.Arg] = []
    for arg in call.args:
        name = arg.keyword.value if arg.keyword else ""
        if name not in left:
            args.append(arg)
            continue
        value = left.pop(name)
        if value is not None:
            args.append(arg.with_changes(value=cst.parse_expression(value)))
    for name, value in left.items():
        if value is None:
            continue
        addition = cst.Arg(
            keyword=cst.Name(name),
            value=cst.parse_expression(value),
            equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
        )
        stars = [index for index, arg in enumerate(args) if arg.star == "**"]
        place = stars[0] if stars else len(args)
        if place and isinstance(args[place - 1].comma, cst.MaybeSentinel):
            args[place - 1] = args[place - 1].with_changes(comma=_comma_like(args))
        if place < len(args):
            addition = addition.with_changes(comma=_comma_like(args))
        args.insert(place, addition)
    if args and args[-1].comma is not cst.MaybeSentinel.DEFAULT and (not call.args or call.args[-1] is not args[-1]):
        trailing = bool(call.args) and isinstance(call.args[-1].comma, cst.Comma)
        if not trailing:
            args[-1] = args[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    elif call.args and isinstance(call.args[-1].comma, cst.Comma) and args and args[-1] is not call.args[-1]:
        closing = call.args[-1].comma
        args[-1] = args[-1].with_changes(comma=closing)
        for index in range(len(args) - 1):
            if args[index] is call.args[-1]:
                args[index] = args[index].with_changes(comma=_comma_like(list(call.args[:-1])))
    return call.with_changes(args=args)


def _comma_like(args: list[cst.Arg]) -> cst.Comma:
    """The comma between the call's arguments as the person writes it (with its line break, if any)."""
    import libcst as cst

    for arg in args[:-1]:
        if isinstance(arg.comma, cst.Comma):
            return arg.comma
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def replace_symbol(source: str, old: str, new: str, *, module: str) -> str:
    """Use ``module.new`` wherever the cell uses ``module.old``, and import it where the cell would not have it.

    Plain uses of the name, its import from the module (or a submodule) and ``module.old`` are changed; attributes of other objects,
    keywords, strings and comments of that spelling are left alone.
    """
    import libcst as cst
    from libcst.codemod import CodemodContext
    from libcst.codemod.visitors import AddImportsVisitor

    class Editor(cst.CSTTransformer):
        used = False

        def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
            if original_node.attr.value == old and dotted(original_node.value).split(".")[0] == module:
                return updated_node.with_changes(attr=cst.Name(new))
            return updated_node.with_changes(attr=original_node.attr)

        def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
            return updated_node.with_changes(keyword=original_node.keyword)

        def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
            return bool(node.module) and dotted(node.module or cst.Name("_")).split(".")[0] == module

        def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
            if original_node.value != old:
                return updated_node
            self.used = True
            return updated_node.with_changes(value=new)

    def edit(tree: cst.Module) -> cst.Module:
        editor = Editor()
        changed = tree.visit(editor)
        if not editor.used:
            return changed
        context = CodemodContext()
        AddImportsVisitor.add_needed_import(context, module, new)
        return AddImportsVisitor(context).transform_module(changed)

    return transform(source, edit)


def names_used(source: str) -> tuple[set[str], set[str]]:
    """Names that a cell binds, and names that it reads, at its top level and inside; both empty when it is not Python."""
    import ast

    body = python_of(source)
    try:
        tree: Any = ast.parse(body or "")
    except (SyntaxError, ValueError, RecursionError):
        return set(), set()
    bound: set[str] = set()
    read: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return bound, read
