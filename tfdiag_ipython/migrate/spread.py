"""Arguments that a call takes from a dictionary: ``TrainingArguments(**options)``, with ``options`` written in the program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.data.changes import Argument
from tfdiag_ipython.migrate.edits import Edit
from tfdiag_ipython.migrate.program import Program

if TYPE_CHECKING:
    import libcst as cst


@dataclass(frozen=True)
class Entry:
    """One argument in such a dictionary. ``node`` is its element.

    ``own`` says that the dictionary is for this call alone, so that an edit of it means nothing else.
    """

    name: str
    node: Any
    own: bool

    def renamed(self, new: str, value: str = "") -> Edit:
        """The edit to another key, and another value (Python source) where one is given."""
        import libcst as cst

        changes = {"value": cst.parse_expression(value)} if value else {}
        if isinstance(self.node, cst.Arg):
            return lambda arg: arg.with_changes(keyword=arg.keyword.with_changes(value=new), **changes)
        return lambda element: element.with_changes(
            key=element.key.with_changes(value=element.key.value.replace(self.name, new)), **changes
        )

    def changed(self, change: Argument) -> Edit | None:
        """The edit that this change asks for; ``None`` where a person must see to it."""
        import libcst as cst

        if change.renamed:
            return self.renamed(change.new)
        given = cst.Module([]).code_for_node(self.node.value)
        written = "" if change.edit == "drop" else change.values.get(given) if change.edit == "replace" else None
        if written is None:
            return None
        name, _, value = written.partition("=")
        return self.renamed(name, value) if name else lambda _: cst.RemovalSentinel.REMOVE


def spread(program: Program, call: cst.Call) -> Iterator[Entry]:
    """The arguments that stand in the dictionaries of ``**``; nothing of those whose text is not at hand."""
    import libcst as cst

    for arg in call.args:
        if arg.star != "**":
            continue
        found, own = arg.value, True
        if isinstance(found, cst.Name):
            value, uses = program.assigned(found)
            if value is None:
                continue
            found, own = value, uses == 1
        for node in _elements(program, found):
            yield Entry(_key(node), node, own)


def _elements(program: Program, node: cst.BaseExpression) -> Iterator[Any]:
    """The elements of ``{…}`` or ``dict(…)`` whose keys are written out."""
    import libcst as cst

    if isinstance(node, cst.Dict):
        yield from (element for element in node.elements if _key(element))
        return
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "dict":
        own = program.bindings(node.func) or program.imported(node.func)
        yield from (arg for arg in node.args if _key(arg) and not own)


def _key(node: Any) -> str:
    import libcst as cst

    if isinstance(node, cst.Arg):
        return node.keyword.value if node.keyword is not None else ""
    if isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString):
        value = node.key.evaluated_value
        return value if isinstance(value, str) else ""
    return ""
