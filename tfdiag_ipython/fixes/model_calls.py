"""Calls of a model on given inputs in a cell's source: whether they pass an attention mask, and with it added."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import dotted, one_line, transform, with_arguments

if TYPE_CHECKING:
    import libcst as cst

_MOVES = ("to", "cuda", "cpu")
"""Methods that give the same ids on another device."""


@dataclass(frozen=True)
class ModelCall:
    """A call of a model; ``masked``: whether it passes an attention mask (``None``: the source does not show it).

    ``edits``: the causes (``mask``, ``contradicted``, ``positions``) that an edit of this call can put right.
    """

    source: str
    line: int
    masked: bool | None
    generates: bool = False
    edits: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Program:
    """The names under which a program calls a model on inputs.

    ``given`` says that the inputs hold a mask, which ``**inputs`` passes; ``infers`` that ``generate`` can make the mask itself.
    """

    model: str
    inputs: str
    given: bool
    infers: bool = True


@dataclass(frozen=True)
class _Look:
    """What a call shows: whether it passes a mask, whether one is written in it, how it moves the ids, whether it generates.

    ``second``: the mask is the second of two arguments without names.
    """

    masked: bool | None
    written: bool
    moves: str
    generates: bool
    second: bool = False

    @property
    def edits(self) -> frozenset[str]:
        able = {"mask": self.masked is False, "contradicted": self.written, "positions": not self.generates}
        return frozenset(cause for cause, possible in able.items() if possible)


def inputs_written(source: str, model: str) -> tuple[str, bool] | None:
    """The variable whose ids the only call of this model in a line passes, and whether it is a mapping that holds them.

    ``None`` where the line does not show one plain variable.
    """
    found = []
    for text in (source, f"{source} pass"):  # the head of a loop is no statement by itself
        with contextlib.suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(text.strip())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (model, f"{model}.generate"):
                    found.append(node)
            break
    return _variable(found[0]) if len(found) == 1 else None


def _variable(call: ast.Call) -> tuple[str, bool] | None:
    named = [word.value for word in call.keywords if word.arg in ("input_ids", "inputs")]
    positional = [value for value in call.args if not isinstance(value, ast.Starred)]
    spread = [word.value for word in call.keywords if word.arg is None]
    value: ast.expr | None = next(iter([*named, *positional, *spread]), None)
    mapping = value in spread
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _MOVES:
        value = value.func.value
    if _takes_ids(value):
        value, mapping = value.value, True  # type: ignore[union-attr]
    return (value.id, mapping) if isinstance(value, ast.Name) else None


def _takes_ids(value: ast.expr | None) -> bool:
    """Whether it is ``batch["input_ids"]`` or ``batch.input_ids``."""
    if isinstance(value, ast.Subscript):
        return isinstance(value.slice, ast.Constant) and value.slice.value == "input_ids"
    return isinstance(value, ast.Attribute) and value.attr == "input_ids"


def calls_on(source: str, program: Program) -> list[ModelCall]:
    """The calls of the model on these inputs in a cell, in their order.

    Calls in functions are not known to run, nor to run on these inputs: of them ``masked`` is ``True`` or ``None``.
    """
    from libcst.metadata import MetadataWrapper, PositionProvider

    found: list[ModelCall] = []

    def read(tree: cst.Module) -> cst.Module:
        wrapper = MetadataWrapper(tree, unsafe_skip_copy=True)
        places = wrapper.resolve(PositionProvider)
        for call, inner, look in _calls(wrapper.module, program):
            text = one_line(tree.code_for_node(call))
            masked = look.masked if look.masked or not inner else None
            edits = look.edits if not inner else frozenset()
            found.append(ModelCall(text, places[call].start.line, masked, look.generates, edits))
        return tree

    transform(source, read)
    return found


def add_mask(source: str, program: Program, mask: str) -> str:
    """The source with ``attention_mask=mask`` in each call outside functions that passes none.

    Where the call moves the ids to a device, it moves the mask there, too.
    """
    return _edit(source, program, {"attention_mask": mask}, "mask")


def replace_mask(source: str, program: Program, mask: str) -> str:
    """The source with another mask in each call outside functions in which one is written."""
    return _edit(source, program, {"attention_mask": mask}, "contradicted")


def add_positions(source: str, program: Program, mask: str) -> str:
    """The source with position ids that skip the padding in each call of the model outside functions, and the mask where it lacks."""
    positions = {"position_ids": f"({mask}.cumsum(-1) - 1).clamp(min=0)"}
    return _edit(add_mask(source, program, mask), program, positions, "positions")


def _edit(source: str, program: Program, arguments: dict[str, str], cause: str) -> str:
    """The source with these arguments set in the calls outside functions that it puts right, moved to a device as the ids are."""
    import libcst as cst

    def edit(tree: cst.Module) -> cst.Module:
        looks = {id(call): look for call, inner, look in _calls(tree, program) if not inner and cause in look.edits}

        class Editor(cst.CSTTransformer):
            def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
                look = looks.get(id(original_node))
                if look is None:
                    return updated_node
                moved = {name: f"{value}{look.moves}" for name, value in arguments.items()}
                if cause == "contradicted" and look.second:
                    args = [*updated_node.args]
                    args[1] = args[1].with_changes(value=cst.parse_expression(moved["attention_mask"]))
                    return updated_node.with_changes(args=args)
                return with_arguments(updated_node, moved)

        return tree.visit(Editor())

    return transform(source, edit)


def _calls(tree: cst.Module, program: Program) -> Iterator[tuple[cst.Call, bool, _Look]]:
    """Each call on these inputs: the node, whether it stands in a function, and what it shows."""
    import libcst as cst

    class Finder(cst.CSTVisitor):
        def __init__(self) -> None:
            self.depth = 0
            self.found: list[tuple[cst.Call, bool, _Look]] = []

        def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
            self.depth += 1

        def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:
            self.depth -= 1

        def visit_Lambda(self, node: cst.Lambda) -> None:
            self.depth += 1

        def leave_Lambda(self, original_node: cst.Lambda) -> None:
            self.depth -= 1

        def visit_Call(self, node: cst.Call) -> None:
            seen = _look(node, program)
            if seen is not None:
                self.found.append((node, self.depth > 0, seen))

    finder = Finder()
    tree.visit(finder)
    yield from finder.found


def _look(call: cst.Call, program: Program) -> _Look | None:
    """What a call of the model on these inputs shows; ``None`` for any other call."""
    import libcst as cst

    callee, inputs = dotted(call.func), program.inputs
    if callee not in (program.model, f"{program.model}.generate"):
        return None
    generates = callee.endswith(".generate")
    named = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    spread = [arg for arg in call.args if arg.star]
    positional = [arg.value for arg in call.args if arg.keyword is None and not arg.star]
    mask = named.get("attention_mask", positional[1] if len(positional) > 1 and not generates else None)
    by_name = "attention_mask" in named
    if spread:
        moves = _moves(spread[0].value, (inputs,))
        return _Look(True if program.given and moves is not None else None, by_name, "", generates)
    second = not by_name and mask is not None and len(positional) == 2
    ids = named.get("input_ids", named.get("inputs", positional[0] if positional else None))
    moves = _moves(ids, (inputs, f'{inputs}["input_ids"]', f"{inputs}.input_ids")) if ids is not None else None
    if moves is None:
        return None
    if mask is None or (isinstance(mask, cst.Name) and mask.value == "None" and by_name):
        return _Look(None if generates and program.infers else False, by_name, moves, generates)
    masked = True if re.search(r"mask", cst.Module([]).code_for_node(mask)) else None
    return _Look(masked, by_name or second, moves, generates, second)


def _moves(value: cst.BaseExpression, wanted: tuple[str, ...]) -> str | None:
    """The source of the moves after one of these expressions (``.to(device)``, empty for none); ``None`` for another one."""
    import libcst as cst

    moves = ""
    code = cst.Module([]).code_for_node
    while isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and value.func.attr.value in _MOVES:
        inner = value.func.value
        moves = code(value)[len(code(inner)) :] + moves
        value = inner
    quoted = code(value).replace("'", '"')
    return moves if quoted in [text.replace("'", '"') for text in wanted] else None
