"""Edit the cell that must change, wherever in the history it stands, and run it and what depends on it again."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.source import names_used
from tfdiag_ipython.probe import Cell, Scene

_ABSENT = object()


@dataclass(frozen=True)
class CellEdit:
    """One cell before and after."""

    cell: Cell
    source: str


class EditCells(Plan):
    """Run edited cells, and those that depend on them up to the failing one, in their order.

    Undo binds the names that these cells bind to what they were before; what was changed in place stays changed.
    """

    def __init__(
        self,
        host: Host,
        edits: Sequence[CellEdit],
        reruns: Sequence[Cell],
        *,
        failure: Failure | None = None,
        note: str = "",
        undoable: bool = True,
    ) -> None:
        super().__init__(host, reruns=tuple(reruns), failure=failure)
        self.edits = tuple(edits)
        self.undoable = undoable
        self.note = note
        self._before: dict[str, Any] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """The new source of each edited cell, for copying or for putting into the notebook."""
        return tuple(edit.source for edit in self.edits)

    def preview(self) -> Preview:
        diffs = [diff(edit.cell.source, edit.source, edit.cell.label) for edit in self.edits]
        names = ", ".join(cell.label for cell in self.reruns)
        back = (
            "Undo binds the variables to what they were; what the cells change in place (weights, files) stays changed."
        )
        if not self.undoable:
            back = "It cannot be undone: an object of yours is changed in place."
        note = f"Then runs again, in this order: {names}. {back}"
        return Preview("diff", "\n".join(diffs), f"{self.note} {note}".strip())

    def execute(self, progress: Progress) -> str:
        bound = set().union(*(names_used(cell.source)[0] for cell in self.reruns))
        self._before = {name: self.host.namespace.get(name, _ABSENT) for name in bound}
        labels = ", ".join(edit.cell.label for edit in self.edits)
        return f"Used an edited copy of {labels}."

    def undo(self) -> str:
        for name, value in self._before.items():
            if value is _ABSENT:
                self.host.namespace.pop(name, None)
            else:
                self.host.namespace[name] = value
        names, self._before = sorted(self._before), {}
        return f"Put back: {', '.join(names) or 'nothing was bound'}. Your cells' text was not changed."


def edit_cells(
    scene: Scene,
    change: Callable[[str], str],
    *,
    failure: Failure | None = None,
    note: str = "",
    every: bool = False,
    undoable: bool = True,
) -> EditCells:
    """Plan the edit of the newest cell in which ``change`` changes something (``every``: of all that feed the failing cell).

    ``undoable=False`` says that the edited cells change an object in place, which binding names cannot take back.
    Raises :class:`PlanError` when no cell that was run is changed by it: the code stands in an imported file, for example.
    """
    if scene.host is None or not scene.cells:
        raise PlanError("The cells that were run are not known here: make the change by hand.")
    cells = _newest_versions(scene.cells)
    edits: list[CellEdit] = []
    for cell in reversed(cells):
        changed = change(cell.source)
        if changed != cell.source:
            edits.insert(0, CellEdit(cell, changed))
            if not every:
                break
    if not edits:
        raise PlanError("The code to change stands in none of the cells that were run: make the change by hand.")
    return EditCells(scene.host, edits, _affected(cells, edits), failure=failure, note=note, undoable=undoable)


def _newest_versions(cells: Sequence[Cell]) -> list[Cell]:
    """The history in which a cell that was run several times stands once, where it was run last."""
    newest: dict[str, Cell] = {}
    for cell in cells:
        key = cell.id or cell.source
        newest.pop(key, None)
        newest[key] = cell
    return list(newest.values())


def _affected(cells: Sequence[Cell], edits: Sequence[CellEdit]) -> list[Cell]:
    """The edited cells with their new source, those after them that read what they bind, and the failing cell."""
    new = {edit.cell: edit.source for edit in edits}
    reruns: list[Cell] = []
    tainted: set[str] = set()
    for position, cell in enumerate(cells):
        source = new.get(cell, cell.source)
        bound, read = names_used(source)
        if cell in new or read & tainted or (tainted and position == len(cells) - 1):
            reruns.append(replace(cell, source=source))
            tainted |= bound
        elif position == len(cells) - 1 and reruns:
            reruns.append(cell)
    return reruns


def diff(before: str, after: str, label: str) -> str:
    """A unified diff of a cell's source."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{label}, now", f"{label}, fixed", lineterm="", n=2
    )
    return "\n".join(lines)
