"""The expression that raised: its syntax tree, and the frame in which its names are bound."""

from __future__ import annotations

import ast
import itertools
import linecache
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import FrameType, TracebackType
from typing import Any

from tfdiag_ipython.failure import CELL_BODY, CELL_FILE

MOST_LINES = 30
"""Lines of one statement that are read; longer ones are left alone."""
_GUARD = "tfdiag_ipython/watch/"
"""Frames of the index guard stand between the program's call and its own exception."""


@dataclass(frozen=True)
class FailingCall:
    """The frame of a library or the program in which it was raised. ``exact`` says that ``nodes`` is the very expression.

    Before Python 3.11 a traceback knows the line only, and ``nodes`` are all calls and subscripts of the statement there.
    """

    nodes: tuple[ast.expr, ...]
    source: str
    exact: bool
    own: bool
    where: str
    locals: Mapping[str, Any]
    globals: Mapping[str, Any]

    def text(self, node: ast.expr) -> str:
        """The node as it is written; empty where that is long or runs over several lines."""
        found = ast.get_source_segment(self.source, node) or ""
        return found if len(found) <= 40 and "\n" not in found else ""


def failing_call(exception: BaseException | None) -> FailingCall | None:
    """The innermost call of the exception that reached the top; ``None`` where its source is not known."""
    trace = exception.__traceback__ if exception is not None else None
    innermost: TracebackType | None = None
    while trace is not None:
        if _GUARD not in _file(trace.tb_frame):
            innermost = trace
        trace = trace.tb_next
    if innermost is None:
        return None
    frame = innermost.tb_frame
    source, tree, exact = _expression(innermost) or _statement(innermost) or ("", None, False)
    if tree is None:
        return None
    found = [tree.body] if isinstance(tree, ast.Expression) and exact else ast.walk(tree)
    nodes = tuple(node for node in found if isinstance(node, (ast.Call, ast.Subscript)))
    if not nodes:
        return None
    file, function = _file(frame), frame.f_code.co_name
    name = "" if file.startswith("<cell") else f", {PurePosixPath(file).name}"
    inside = not CELL_BODY.fullmatch(function)
    where = f"frame `{function}`{name} line {innermost.tb_lineno}" if inside else f"line {innermost.tb_lineno}"
    return FailingCall(nodes, source, exact, file.startswith("<cell"), where, frame.f_locals, frame.f_globals)


def calls_at(trace: TracebackType) -> tuple[ast.Call, ...]:
    """The calls in the expression at which a frame of the traceback stands; before Python 3.11, those of its statement."""
    _, tree, exact = _expression(trace) or _statement(trace) or ("", None, False)
    if exact and isinstance(tree, ast.Expression):
        return (tree.body,) if isinstance(tree.body, ast.Call) else ()
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Call)) if tree is not None else ()


def operands_at(trace: TracebackType) -> tuple[ast.expr, ...]:
    """The tensors' places in the operation at which a frame stands: both sides of ``a @ b``, the object and the arguments of a call.

    Empty where the line has more than one that it could be.
    """
    _, tree, exact = _expression(trace) or _statement(trace) or ("", None, False)
    found = [tree.body] if exact and isinstance(tree, ast.Expression) else ast.walk(tree) if tree is not None else ()
    nodes = [node for node in found if isinstance(node, (ast.Call, ast.BinOp))]
    if len(nodes) != 1:
        return ()
    node = nodes[0]
    if isinstance(node, ast.BinOp):
        return (node.left, node.right)
    owner = [node.func.value] if isinstance(node.func, ast.Attribute) else []
    return (*owner, *node.args, *(word.value for word in node.keywords if word.arg))


def _file(frame: FrameType) -> str:
    return CELL_FILE.sub("<cell>", frame.f_code.co_filename).replace("\\", "/")


def _lines(frame: FrameType) -> list[str]:
    return linecache.getlines(frame.f_code.co_filename, frame.f_globals)


def _expression(trace: TracebackType) -> tuple[str, ast.AST, bool] | None:
    """What stands at the place that the instruction came from (Python 3.11 and later)."""
    places = getattr(trace.tb_frame.f_code, "co_positions", None)
    if places is None or trace.tb_lasti < 0:
        return None
    place: Any = next(itertools.islice(places(), trace.tb_lasti // 2, None), (None,))
    if None in place or place[1] - place[0] >= MOST_LINES:
        return None
    first, last, left, right = place
    lines = [line.encode() for line in _lines(trace.tb_frame)[first - 1 : last]]  # columns count bytes
    if len(lines) != last - first + 1:
        return None
    lines[-1] = lines[-1][:right]
    lines[0] = lines[0][left:]
    source = f"({b''.join(lines).decode(errors='replace')})"
    try:
        return source, ast.parse(source, mode="eval"), True
    except (SyntaxError, ValueError, RecursionError):
        return None


def _statement(trace: TracebackType) -> tuple[str, ast.AST, bool] | None:
    """The shortest statement that begins at the line."""
    lines = _lines(trace.tb_frame)[trace.tb_lineno - 1 : trace.tb_lineno - 1 + MOST_LINES]
    for source in _growing(lines):
        try:
            return source, ast.parse(source), False
        except (SyntaxError, ValueError, RecursionError):
            continue
    return None


def _growing(lines: list[str]) -> Iterator[str]:
    for count in range(1, len(lines) + 1):
        text = textwrap.dedent("".join(lines[:count]))
        yield text
        yield f"{text.rstrip()} pass"  # the head of a loop or a condition is no statement by itself
