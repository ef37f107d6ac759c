"""Calls of a model on given inputs in a cell's source: whether they pass an attention mask, and with it added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import dotted, edit_calls, with_arguments

if TYPE_CHECKING:
    import libcst as cst

_MOVES = ("to", "cuda", "cpu")
"""Methods that give the same ids on another device."""


@dataclass(frozen=True)
class ModelCall:
    """A call of a model: its source, and whether it passes an attention mask."""

    source: str
    masked: bool


def calls_on(source: str, model: str, inputs: str, *, given: bool) -> list[ModelCall]:
    """The calls of ``model`` on ``inputs`` in their order; both are names as they stand in the source.

    ``inputs`` holds ``input_ids`` or is them; ``given`` says that it holds a mask, which ``model(**inputs)`` passes.
    Calls that do not show whether they pass a mask (several arguments by position, other ``**`` arguments) are left out.
    """
    import libcst as cst

    found: list[ModelCall] = []

    def note(call: cst.Call) -> bool:
        seen = _look(call, model, inputs, given)
        if seen is not None:
            found.append(ModelCall(" ".join(cst.Module([]).code_for_node(call).split()), seen[0]))
        return False

    edit_calls(source, note, lambda call: call)
    return found


def add_mask(source: str, model: str, inputs: str, mask: str, *, given: bool) -> str:
    """The source with ``attention_mask=mask`` in each call that :func:`calls_on` finds without a mask.

    Where the call moves the ids to a device, it moves the mask there, too.
    """

    def unmasked(call: cst.Call) -> bool:
        seen = _look(call, model, inputs, given)
        return seen is not None and not seen[0]

    def change(call: cst.Call) -> cst.Call:
        _, moves = _look(call, model, inputs, given) or (False, "")
        return with_arguments(call, {"attention_mask": f"{mask}{moves}"})

    return edit_calls(source, unmasked, change)


def _look(call: cst.Call, model: str, inputs: str, given: bool) -> tuple[bool, str] | None:
    """Whether a call of the model on these inputs passes a mask, and how it moves them; ``None`` for any other call."""
    if dotted(call.func) != model:
        return None
    masked = any(arg.keyword is not None and arg.keyword.value == "attention_mask" for arg in call.args)
    spread = [arg for arg in call.args if arg.star]
    if spread:
        moves = _moves(spread[0].value, (inputs,)) if len(spread) == 1 and spread[0].star == "**" else None
        return None if moves is None else (masked or given, moves)
    ids = _ids(call)
    moves = _moves(ids, (inputs, f'{inputs}["input_ids"]', f"{inputs}.input_ids")) if ids is not None else None
    return None if moves is None else (masked, moves)


def _ids(call: cst.Call) -> cst.BaseExpression | None:
    """What the call passes as ``input_ids``: by name, or as its only argument by position."""
    positional = [arg.value for arg in call.args if arg.keyword is None and not arg.star]
    named = [arg.value for arg in call.args if arg.keyword is not None and arg.keyword.value == "input_ids"]
    given = [*positional, *named]
    return given[0] if len(given) == 1 else None


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
