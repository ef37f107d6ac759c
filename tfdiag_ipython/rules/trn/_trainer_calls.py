"""Edits of the call that makes a Trainer, in the cell where it stands."""

from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.fixes.source import calls_to, edit_calls, set_arguments
from tfdiag_ipython.migrate.edits import add_import


def replace_dataset(source: str, trainer: str, templates: Mapping[str, str]) -> str:
    """Write what each named argument's template makes of its value: ``[… for row in {}]``."""
    import libcst as cst

    def change(call: cst.Call) -> cst.Call:
        args = list(call.args)
        for number, arg in enumerate(args):
            template = templates.get(arg.keyword.value) if arg.keyword is not None else None
            if template is not None:
                value = template.format(cst.Module([]).code_for_node(arg.value))
                args[number] = arg.with_changes(value=cst.parse_expression(value))
        return call.with_changes(args=args)

    return edit_calls(source, calls_to(trainer), change)


def set_imported(source: str, trainer: str, arguments: Mapping[str, str], needs: str) -> str:
    """Set arguments of the call that makes the Trainer; ``needs`` is imported where that changes anything."""
    changed = set_arguments(source, calls_to(trainer), arguments)
    return changed if changed == source else add_import(changed, needs)
