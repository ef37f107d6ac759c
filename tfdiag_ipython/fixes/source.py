"""Edits of Python source that keep comments, formatting, IPython magics and ``!`` lines (LibCST does the editing).

The functions here take a cell's source and return it changed, or unchanged when there is nothing to change; source that is not
Python (``%%bash``, a syntax error) is returned as it is.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
import tokenize
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.errors import PlanError

if TYPE_CHECKING:
    import libcst as cst

MOST_WRITTEN = 400
"""Characters of a call by which it is told from others of the same function."""
_MAGIC_LINE = re.compile(r"^(?P<indent>[ \t]*)(?:%(?!%)|[!?,;/]|[\w.]+\?{1,2}\s*$|[\w., ]+=\s*[%!]\s*\S)")
_RUNS_PYTHON = re.compile(r"%(?:time|prun|memit|lprun)\s+(?=[^\s-])")
"""Line magics that run the Python behind them in the person's namespace."""
_ASSIGNS = re.compile(r"[\w., ]+=\s*(?=[%!]\s*\S)")
_MARK = "__tfdiag_line_{}__"
_MARKED = re.compile(r"__tfdiag_line_(\d+)__(?:; )?")
ALIASES: ContextVar[Mapping[str, str]] = ContextVar("ALIASES", default=MappingProxyType({}))
"""What the names of the program at hand stand for (``TA`` → ``transformers.TrainingArguments``), while a plan is worked out for it."""
HELD: ContextVar[Mapping[str, frozenset[str]]] = ContextVar("HELD", default=MappingProxyType({}))
"""The keys of the program's dictionaries, by variable, which calls may spread by ``**``; likewise."""
PYTHON_CELL_MAGICS = frozenset({"time", "timeit", "capture", "prun", "tfdiag", "debug"})
"""Cell magics whose body is Python."""


def transform(source: str, edit: Callable[[cst.Module], cst.Module]) -> str:
    """Apply a LibCST edit to the Python of a cell; whatever is IPython's own survives to the letter."""
    import libcst as cst

    head, body, lines = _mask(source)
    if body is None:
        return source
    _leave_room(len(body))
    try:
        tree = cst.parse_module(body)
    except (cst.ParserSyntaxError, RecursionError):
        return source
    changed = edit(tree).code
    if changed == body:
        return source
    return head + _MARKED.sub(lambda match: lines[int(match[1])], changed)


def _leave_room(characters: int) -> None:
    """LibCST's native parser ends the process where memory is refused to it; raises ``PlanError`` before that."""
    try:
        bytearray(2**22 + 1000 * characters)  # measured: about 700 bytes a character
    except MemoryError:
        raise PlanError(
            "There is not even memory to edit your code: free what you can spare, and click once more."
        ) from None


def python_of(source: str) -> str | None:
    """The cell's Python, with each of IPython's own lines as a harmless name; ``None`` when the cell is not Python."""
    return _mask(source)[1]


def one_line(source: str) -> str:
    """Python in one line, without its comments; the text as it is where Python cannot read it."""
    lines = source.splitlines()
    with contextlib.suppress(SyntaxError, tokenize.TokenError):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    return " ".join(" ".join(lines).split())


def head_of(source: str) -> str:
    """The lines of cell magics, and the blank ones and comments among and before them, that stand in front of a cell's Python."""
    rest = source.splitlines(keepends=True)
    plain = [number for number, line in enumerate(rest) if line.strip() and not line.startswith(("%%", "#"))]
    magics = [number for number in range(plain[0] if plain else len(rest)) if rest[number].startswith("%%")]
    end = magics[-1] + 1 if magics else 0
    while magics and end < len(rest) and not rest[end].strip():
        end += 1
    return "".join(rest[:end])


def _mask(source: str) -> tuple[str, str | None, list[str]]:
    """Cell-magic head, Python body with IPython's lines replaced by names, and those lines."""
    head = head_of(source)
    magics = [line[2:].split()[:1] for line in head.splitlines() if line.startswith("%%")]
    if any(magic not in [[name] for name in PYTHON_CELL_MAGICS] for magic in magics):
        return source, None, []
    rest = source[len(head) :].splitlines(keepends=True)
    lines: list[str] = []
    for _ in range(len(rest) + 1):
        number = _syntax_error("".join(rest))
        if number is None:
            return head, "".join(rest), lines
        if number > len(rest) or not _MAGIC_LINE.match(rest[number - 1]):
            return source, None, []
        _replace_line(rest, number - 1, lines)
    return source, None, []


def _syntax_error(body: str) -> int | None:
    """The line (from 1) at which Python stops reading, which is where IPython's own syntax stands."""
    import ast

    flags = ast.PyCF_ONLY_AST | getattr(ast, "PyCF_ALLOW_TOP_LEVEL_AWAIT", 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in the person's code is not ours to speak of
            compile(body, "<cell>", "exec", flags)
    except SyntaxError as error:
        return max(error.lineno or 1, 1)
    except (ValueError, RecursionError, MemoryError):
        return sys.maxsize
    return None


def _replace_line(rest: list[str], index: int, lines: list[str]) -> None:
    """Put a name in the place of one of IPython's lines (with the lines that it goes on in), keeping its indentation.

    The Python behind ``%time``, and the names that a magic's result is given to, stay.
    """
    text = rest.pop(index)
    while text.rstrip("\n").endswith("\\") and index < len(rest):
        text += rest.pop(index)
    indent = text[: len(text) - len(text.lstrip(" \t"))]
    end = "\n" if text.endswith("\n") else ""
    text = text[len(indent) :].rstrip("\n")
    mark, before, after = _MARK.format(len(lines)), "", ""
    if (head := _RUNS_PYTHON.match(text)) and _syntax_error(text[head.end() :]) is None:
        text, after = head[0], f"; {text[head.end() :]}"
    elif head := _ASSIGNS.match(text):
        text, before = text[head.end() :], head[0]
    rest.insert(index, f"{indent}{before}{mark}{after}{end}")
    lines.append(text)


def dotted(node: cst.BaseExpression) -> str:
    """``a.b.c`` of a name or attribute chain; empty for anything else."""
    import libcst as cst

    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


def called(node: cst.BaseExpression) -> str:
    """``a.b.c`` of a name or attribute chain, with what ``a`` stands for in its place where the program imports it."""
    root, dot, rest = dotted(node).partition(".")
    return f"{ALIASES.get().get(root, root)}{dot}{rest}"


def is_written(node: cst.BaseExpression, text: str) -> bool:
    """Whether an expression is this one as ``ast.unparse`` writes it, or begins so where that is long, however it is laid out."""
    import libcst as cst

    try:
        found = ast.unparse(ast.parse(cst.Module([]).code_for_node(node), mode="eval"))
    except (SyntaxError, ValueError, RecursionError):
        return False
    return found == text or (len(text) >= MOST_WRITTEN and found.startswith(text))


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
        spellings = (dotted(call.func), called(call.func))
        return any(callee == name or callee.endswith(f".{name}") for name in names for callee in spellings)

    return accepts


def set_arguments(source: str, wanted: Callable[[cst.Call], bool], arguments: Mapping[str, str | None]) -> str:
    """Set keyword arguments (values are Python source) of the wanted calls; ``None`` removes one."""

    def change(call: cst.Call) -> cst.Call:
        return with_arguments(call, arguments)

    return edit_calls(source, wanted, change)


def with_arguments(call: cst.Call, arguments: Mapping[str, str | None]) -> cst.Call:
    """The call with these keyword arguments set, replaced or (``None``) removed; layout and comments are kept.

    One that a dictionary gives by ``**`` is set behind it, for a call takes each argument once.
    """
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
    for index, arg in enumerate(args):
        held = HELD.get().get(dotted(arg.value), frozenset()) if arg.star == "**" else frozenset()
        given = {name: value for name, value in left.items() if name in held and value is not None}
        if given:
            written = ", ".join([f"**{dotted(arg.value)}", *(f'"{name}": {value}' for name, value in given.items())])
            args[index] = arg.with_changes(value=cst.parse_expression(f"{{{written}}}"))
            left = {name: value for name, value in left.items() if name not in given}
    no_space = cst.SimpleWhitespace("")
    stars = (index for index, arg in enumerate(args) if arg.star == "**")
    place = next(stars, len(args))
    for name, value in left.items():
        if value is not None:
            equal = cst.AssignEqual(no_space, no_space)
            args.insert(place, cst.Arg(keyword=cst.Name(name), value=cst.parse_expression(value), equal=equal))
            place += 1
    return call.with_changes(args=_laid_out(args, call))


def _laid_out(args: list[cst.Arg], call: cst.Call) -> list[cst.Arg]:
    """Give every argument the separator that the person's layout asks for, and the last one the layout's end."""
    import libcst as cst

    if not call.args or not args:
        return args
    old_last, between, no_space = call.args[-1], _separator(call), cst.SimpleWhitespace("")
    placed: list[cst.Arg] = []
    for index, arg in enumerate(args):
        was_last = arg.comma is old_last.comma and arg.whitespace_after_arg is old_last.whitespace_after_arg
        if index == len(args) - 1:
            ending = old_last.comma
            if isinstance(ending, cst.Comma) and not was_last:
                own = arg.comma.whitespace_after if isinstance(arg.comma, cst.Comma) else ending.whitespace_after
                ending = ending.with_changes(
                    whitespace_after=_comment_of(own, _without_comment(ending.whitespace_after))
                )
            placed.append(arg.with_changes(comma=ending, whitespace_after_arg=old_last.whitespace_after_arg))
        elif was_last or not isinstance(arg.comma, cst.Comma):
            comma = between
            if was_last and isinstance(arg.comma, cst.Comma):  # its comment stays on its line
                comma = comma.with_changes(
                    whitespace_after=_comment_of(arg.comma.whitespace_after, between.whitespace_after)
                )
            placed.append(arg.with_changes(comma=comma, whitespace_after_arg=no_space))
        else:
            placed.append(arg)
    return placed


def _separator(call: cst.Call) -> cst.Comma:
    """The comma between the call's arguments as the person writes it, with its line break but without a comment."""
    import libcst as cst

    for arg in call.args[:-1]:
        if isinstance(arg.comma, cst.Comma):
            return arg.comma.with_changes(whitespace_after=_without_comment(arg.comma.whitespace_after))
    if isinstance(call.whitespace_before_args, cst.ParenthesizedWhitespace):
        return cst.Comma(whitespace_after=_without_comment(call.whitespace_before_args))
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _without_comment(space: cst.BaseParenthesizableWhitespace) -> cst.BaseParenthesizableWhitespace:
    import libcst as cst

    if not isinstance(space, cst.ParenthesizedWhitespace):
        return space
    return space.with_changes(first_line=cst.TrailingWhitespace(cst.SimpleWhitespace("")), empty_lines=[])


def _comment_of(
    ending: cst.BaseParenthesizableWhitespace, between: cst.BaseParenthesizableWhitespace
) -> cst.BaseParenthesizableWhitespace:
    """``between``, with the comment that stands in ``ending``."""
    import libcst as cst

    if isinstance(ending, cst.ParenthesizedWhitespace) and isinstance(between, cst.ParenthesizedWhitespace):
        return between.with_changes(first_line=ending.first_line)
    return between


def replace_symbol(source: str, old: str, new: str, *, module: str) -> str:
    """Use ``module.new`` wherever the cell uses ``module.old``, and import it where the cell would not have it.

    Plain uses of the name, its import from the module (or a submodule) and ``module.old`` are changed; attributes of other objects,
    keywords, strings and comments of that spelling are left alone.
    """
    import libcst as cst
    from libcst.codemod import CodemodContext
    from libcst.codemod.visitors import AddImportsVisitor

    class Editor(cst.CSTTransformer):
        def __init__(self) -> None:
            self.used = False
            self.imported = False
            self.labels: set[int] = set()  # names that are attributes or keywords, not variables

        def visit_Attribute(self, node: cst.Attribute) -> None:
            self.labels.add(id(node.attr))

        def visit_Arg(self, node: cst.Arg) -> None:
            self.labels.add(id(node.keyword))

        def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
            if original_node.attr.value == old and called(original_node.value).split(".")[0] == module:
                return updated_node.with_changes(attr=cst.Name(new))
            return updated_node

        def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
            wanted = node.module is not None and dotted(node.module).split(".")[0] == module
            names = () if isinstance(node.names, cst.ImportStar) else node.names
            self.imported = self.imported or (wanted and any(alias.evaluated_name == old for alias in names))
            return wanted

        def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:
            if original_node.value != old or id(original_node) in self.labels:
                return updated_node
            self.used = True
            return updated_node.with_changes(value=new)

    def edit(tree: cst.Module) -> cst.Module:
        editor = Editor()
        changed = tree.visit(editor)
        if not editor.used or editor.imported:
            return changed
        context = CodemodContext()
        AddImportsVisitor.add_needed_import(context, module, new)
        return AddImportsVisitor(context).transform_module(changed)

    return transform(source, edit)


def with_renamed(call: cst.Call, old: str, new: str, value: str = "") -> cst.Call:
    """The call with the keyword argument ``old`` called ``new``, in its place; ``value`` (Python source) replaces its value."""
    import libcst as cst

    changes: dict[str, Any] = {"keyword": cst.Name(new)} | ({"value": cst.parse_expression(value)} if value else {})
    args = [
        arg.with_changes(**changes) if arg.keyword is not None and arg.keyword.value == old else arg
        for arg in call.args
    ]
    return call.with_changes(args=args)


def call_object(source: str, method: str, receivers: Callable[[str], bool]) -> str:
    """``x(…)`` for ``x.method(…)`` where ``receivers`` accepts the dotted name ``x``."""
    import libcst as cst

    def accepts(call: cst.Call) -> bool:
        func = call.func
        return isinstance(func, cst.Attribute) and func.attr.value == method and receivers(dotted(func.value))

    def change(call: cst.Call) -> cst.Call:
        return call.with_changes(func=cst.ensure_type(call.func, cst.Attribute).value)

    return edit_calls(source, accepts, change)


def rename_attribute(source: str, old: str, new: str) -> str:
    """``x.new`` wherever the cell says ``x.old``."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:
            return updated_node.with_changes(attr=cst.Name(new)) if original_node.attr.value == old else updated_node

    return transform(source, lambda tree: tree.visit(Editor()))
