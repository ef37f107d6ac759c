"""Edits of the call that loads a model: another place, another keyword, another class or task."""

from __future__ import annotations

from tfdiag_ipython.fixes.source import calls_to, edit_calls, set_arguments

_PLACE = ("pretrained_model_name_or_path", "model")
"""The keyword by which ``from_pretrained`` and ``pipeline`` take the place to load from."""


def load_from(source: str, asked: str, place: str) -> str:
    """Let the calls that load with ``asked`` (a class, or ``pipeline``) load from this folder or repository."""
    import libcst as cst

    literal = cst.SimpleString(_literal(place))

    def change(call: cst.Call) -> cst.Call:
        args = list(call.args)
        for number, arg in enumerate(args):
            named = arg.keyword is not None and arg.keyword.value in _PLACE
            first = number == 0 and arg.keyword is None and not arg.star and asked != "pipeline"
            if named or first:
                args[number] = arg.with_changes(value=literal)
                return call.with_changes(args=args)
        return call

    return edit_calls(source, calls_to(_callee(asked)), change)


def load_with_option(source: str, asked: str, option: str, value: str) -> str:
    """Give the calls that load with ``asked`` this keyword argument (``value`` is Python source)."""
    return set_arguments(source, calls_to(_callee(asked)), {option: value})


def pipeline_task(source: str, old: str, new: str) -> str:
    """Ask the calls of ``pipeline`` for the task ``new`` in the place of ``old``, where they name it as a string."""
    import libcst as cst

    def change(call: cst.Call) -> cst.Call:
        args = list(call.args)
        for number, arg in enumerate(args):
            named = arg.keyword.value == "task" if arg.keyword is not None else number == 0
            if named and isinstance(arg.value, cst.SimpleString) and arg.value.evaluated_value == old:
                args[number] = arg.with_changes(value=cst.SimpleString(_literal(new)))
        return call.with_changes(args=args)

    return edit_calls(source, calls_to("pipeline"), change)


def _callee(asked: str) -> str:
    return asked if asked == "pipeline" else f"{asked}.from_pretrained"


def _literal(text: str) -> str:
    """The text as Python source, in double quotes where that needs no escape."""
    import json

    return json.dumps(text) if text.isascii() and text.isprintable() else repr(text)
