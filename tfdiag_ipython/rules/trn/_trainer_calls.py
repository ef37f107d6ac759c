"""Edits of the calls that make a Trainer or its arguments, in the cell where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.fixes.source import calls_to, edit_calls, set_arguments
from tfdiag_ipython.migrate.edits import add_import

if TYPE_CHECKING:
    import libcst as cst

ORDER = ("model", "args", "data_collator", "train_dataset", "eval_dataset")
"""Trainer's arguments as they can be given by position."""


def wrap_arguments(source: str, trainer: str, templates: Mapping[str, str]) -> str:
    """Write what each named argument's template makes of its value: ``[… for row in {}]``."""
    import libcst as cst

    def change(call: cst.Call) -> cst.Call:
        args = list(call.args)
        for number, arg in enumerate(args):
            placed = number < len(ORDER) and not any(one.star for one in args[: number + 1])
            name = arg.keyword.value if arg.keyword is not None else ORDER[number] if placed else ""
            if name in templates:
                value = templates[name].format(cst.Module([]).code_for_node(arg.value))
                args[number] = arg.with_changes(value=cst.parse_expression(value))
        return call.with_changes(args=args)

    return edit_calls(source, calls_to(trainer), change)


def set_imported(source: str, trainer: str, arguments: Mapping[str, str], needs: str) -> str:
    """Set arguments of the call that makes the Trainer; ``needs`` is imported where that changes anything."""
    changed = set_arguments(source, calls_to(trainer), arguments)
    return changed if changed == source else add_import(changed, needs)


def renamed_column(rows: bool, old: str, new: str) -> str:
    """The template of a data set with a column of another name: a list of dictionaries, or a ``datasets.Dataset``."""
    if rows:
        return f'[{{{{**row, "{new}": row["{old}"]}}}} for row in {{}}]'
    return f'{{}}.rename_column("{old}", "{new}")'


def training_arguments(keyword: str = "") -> Callable[[cst.Call], bool]:
    """Accepts calls that make training arguments; also those of another library's subclass, where they give this keyword."""

    def accepts(call: cst.Call) -> bool:
        says = any(arg.keyword is not None and arg.keyword.value == keyword for arg in call.args)
        return says or calls_to("TrainingArguments", "Seq2SeqTrainingArguments")(call)

    return accepts
