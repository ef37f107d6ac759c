"""Which tokenizer of the program is None, and the statement that bound it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.source import python_of
from tfdiag_ipython.probe import Cell, Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._module_calls import last

TOKENIZER = re.compile(r"(?i)(?:^|[._])\w{0,40}(?:tokeni[sz]er|tok|processor)$")
"""How tokenizers are called in programs."""


class MissingTokenizerProbe(Probe):
    """The expression that is None in the frame that failed, where its name is that of a tokenizer.

    Facts: ``name`` (as it is written: ``tokenizer``, ``self.tokenizer``), ``bound`` (the expression that a cell bound it to; empty: none
    does), ``cell`` (that cell's label), ``function`` (of the program's own, that the expression calls and that returns nothing).
    """

    name: ClassVar[str] = "missing-tokenizer"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        trace = last(scene.exception)
        if trace is None:
            return Evidence(missing="the frame that failed is gone")
        frame = trace.tb_frame
        asked = getattr(scene.exception, "name", None)
        owners = [*_owners(calls_at(trace), asked), *_named(failure, asked)]
        found = next(
            (one for one in owners if TOKENIZER.search(one) and _is_none(one, frame.f_locals, frame.f_globals)), ""
        )
        if not found:
            return Evidence(missing="what is None is no tokenizer by its name")
        scene.deadline.check()
        cell, value = _bound(found, scene, trace) or (None, None)
        facts = {
            "name": found,
            "bound": ast.unparse(value)[:80] if value is not None else "",
            "cell": cell.label if cell is not None else "",
            "function": _returns_nothing(value, scene) if value is not None else "",
        }
        told = f"None, by `{facts['bound']}` in {facts['cell']}" if facts["bound"] else "None"
        return Evidence(MappingProxyType(facts), (Observation(found, told, f"frame `{frame.f_code.co_name}`"),))


def _owners(calls: tuple[ast.Call, ...], asked: object) -> Iterator[str]:
    """What is called, or whose method: the dotted expressions."""
    for call in calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == asked:
            yield ast.unparse(call.func.value)
        elif asked is None:
            yield ast.unparse(call.func)


def _named(failure: Failure, asked: object) -> Iterator[str]:
    """Owners of the attribute in the failing line, where that is no call: ``tokenizer.pad_token``."""
    line = failure.frames[-1].source if failure.frames else ""
    if isinstance(asked, str):
        yield from (
            found[1] for found in re.finditer(rf"(?<![\w.])([A-Za-z_][\w.]{{0,80}})\.{re.escape(asked)}\b", line)
        )


def _is_none(name: str, *scopes: Any) -> bool:
    """Whether the dotted name is None: through plain attributes of objects' own dictionaries."""
    first, *rest = name.split(".")
    value: Any = next((scope[first] for scope in scopes if first in scope), _is_none)
    for part in rest:
        value = (getattr(value, "__dict__", None) or {}).get(part, _is_none)
    return value is None


def _bound(name: str, scene: Scene, trace: TracebackType) -> tuple[Cell, ast.expr] | None:
    """The newest statement that binds the name in its own scope; ``None`` where it comes in another way, as by a call or a loop."""
    frame = trace.tb_frame
    first = name.partition(".")[0]
    inside = frame.f_locals is not frame.f_globals and first in frame.f_locals
    if inside and first != "self":
        return None  # given to the function, or made in it
    classes = [base.__name__ for base in type(frame.f_locals["self"]).__mro__] if inside else []
    for cell in reversed(scene.cells):
        scene.deadline.check()
        nodes = _nodes(cell)
        if inside:
            nodes = [
                one
                for node in nodes
                if isinstance(node, ast.ClassDef) and node.name in classes
                for one in ast.walk(node)
            ]
        else:
            hidden = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.GeneratorExp)
            within = {id(one) for node in nodes if isinstance(node, hidden) for one in ast.walk(node)}
            nodes = [node for node in nodes if id(node) not in within]
        late = cell is scene.cells[-1] and frame.f_locals is frame.f_globals
        made = [
            node
            for node in nodes
            if isinstance(node, (ast.Name, ast.Attribute))
            and isinstance(node.ctx, (ast.Store, ast.Del))
            and ast.unparse(node) == name
            and not (late and node.lineno >= trace.tb_lineno)
        ]
        if inside and len(made) > 1:
            return None  # which of its methods ran, nothing tells
        if made:
            last = max(made, key=lambda one: (one.lineno, one.col_offset))
            found = [
                node for node in nodes if isinstance(node, ast.Assign) and any(one is last for one in node.targets)
            ]
            return (cell, found[0].value) if found else None
    return None


def _returns_nothing(value: ast.expr, scene: Scene) -> str:
    """The function of a cell that this expression calls and in which no `return` has a value."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
        return ""
    for cell in reversed(scene.cells):
        for node in _nodes(cell):
            if isinstance(node, ast.FunctionDef) and node.name == value.func.id:
                gives = any(isinstance(one, ast.Return) and one.value is not None for one in ast.walk(node))
                makes = any(isinstance(one, (ast.Yield, ast.YieldFrom)) for one in ast.walk(node))
                return "" if gives or makes else node.name
    return ""


def _nodes(cell: Cell) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(python_of(cell.source) or "")))
    except (SyntaxError, ValueError, RecursionError):
        return []
