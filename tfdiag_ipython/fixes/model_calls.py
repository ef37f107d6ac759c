"""Calls of a model on given inputs in a cell's source: whether they pass an attention mask, and with it added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import dotted, transform, with_arguments

if TYPE_CHECKING:
    import libcst as cst

_MOVES = ("to", "cuda", "cpu")
"""Methods that give the same ids on another device."""


@dataclass(frozen=True)
class ModelCall:
    """A call of a model: its source, its line, and whether it passes an attention mask (``None``: the source does not show it)."""

    source: str
    line: int
    masked: bool | None


@dataclass(frozen=True)
class Program:
    """The names under which a program calls a model on inputs; ``given`` says that the inputs hold a mask, which ``**inputs`` passes."""

    model: str
    inputs: str
    given: bool


def calls_on(source: str, program: Program) -> list[ModelCall]:
    """The calls of the model on these inputs in a cell, in their order.

    Calls in functions are not known to run, nor to run on these inputs: of them ``masked`` is ``True`` or ``None``.
    """
    from libcst.metadata import MetadataWrapper, PositionProvider

    found: list[ModelCall] = []

    def read(tree: cst.Module) -> cst.Module:
        wrapper = MetadataWrapper(tree, unsafe_skip_copy=True)
        places = wrapper.resolve(PositionProvider)
        for call, inner, masked, _ in _calls(wrapper.module, program):
            text = " ".join(tree.code_for_node(call).split())
            found.append(ModelCall(text, places[call].start.line, masked if masked or not inner else None))
        return tree

    transform(source, read)
    return found


def add_mask(source: str, program: Program, mask: str) -> str:
    """The source with ``attention_mask=mask`` in each call outside functions that passes none.

    Where the call moves the ids to a device, it moves the mask there, too.
    """
    import libcst as cst

    def edit(tree: cst.Module) -> cst.Module:
        wanted = {
            id(call): moves for call, inner, masked, moves in _calls(tree, program) if masked is False and not inner
        }

        class Editor(cst.CSTTransformer):
            def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
                if id(original_node) not in wanted:
                    return updated_node
                return with_arguments(updated_node, {"attention_mask": f"{mask}{wanted[id(original_node)]}"})

        return tree.visit(Editor())

    return transform(source, edit)


def _calls(tree: cst.Module, program: Program) -> Iterator[tuple[cst.Call, bool, bool | None, str]]:
    """Each call on these inputs: the node, whether it stands in a function, whether it passes a mask, how it moves the ids."""
    import libcst as cst

    class Finder(cst.CSTVisitor):
        def __init__(self) -> None:
            self.depth = 0
            self.found: list[tuple[cst.Call, bool, bool | None, str]] = []

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
                self.found.append((node, self.depth > 0, *seen))

    finder = Finder()
    tree.visit(finder)
    yield from finder.found


def _look(call: cst.Call, program: Program) -> tuple[bool | None, str] | None:
    """Whether a call of the model on these inputs passes a mask, and how it moves the ids; ``None`` for any other call."""
    import libcst as cst

    callee, inputs = dotted(call.func), program.inputs
    if callee not in (program.model, f"{program.model}.generate"):
        return None
    named = {arg.keyword.value: arg.value for arg in call.args if arg.keyword is not None}
    spread = [arg for arg in call.args if arg.star]
    positional = [arg.value for arg in call.args if arg.keyword is None and not arg.star]
    mask = named.get("attention_mask", positional[1] if len(positional) > 1 else None)
    if spread:
        moves = _moves(spread[0].value, (inputs,))
        return (True if program.given else None, "") if moves is not None else (None, "")
    ids = named.get("input_ids", positional[0] if positional else None)
    moves = _moves(ids, (inputs, f'{inputs}["input_ids"]', f"{inputs}.input_ids")) if ids is not None else None
    if moves is None:
        return None
    if mask is None or (isinstance(mask, cst.Name) and mask.value == "None" and "attention_mask" in named):
        return (None if callee.endswith(".generate") else False), moves  # generate makes one where it can
    return True if re.search(r"mask", cst.Module([]).code_for_node(mask)) else None, moves


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
