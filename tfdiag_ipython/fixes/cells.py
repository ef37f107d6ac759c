"""Edit the cell that must change, wherever in the history it stands, and run it and what depends on it again."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tfdiag_ipython.diagnosis import Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.bindings import Bindings, keepable
from tfdiag_ipython.fixes.source import names_used
from tfdiag_ipython.probe import Cell, Scene


@dataclass(frozen=True)
class CellEdit:
    """One cell before and after."""

    cell: Cell
    source: str


class EditCells(Plan):
    """Run edited cells, and those that depend on them up to the failing one, in their order.

    Undo binds the names that these cells bind to what they were before, but for those that were bound since. Values that hold
    tensors are not kept; the cells that made them run again as they stand. What was changed in place stays changed.
    ``fails`` says that the last of ``reruns`` is the failing cell, which made nothing.
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
        fails: bool = True,
    ) -> None:
        super().__init__(host, reruns=tuple(reruns), failure=failure)
        self.edits = tuple(edits)
        self.note = note
        self._before: Bindings | None = None
        self._in_place = not undoable
        self._made = self.reruns[:-1] if fails else self.reruns
        self._again = self._to_run_again(self._lost())
        self.undoable = undoable and bool(self._again or set(self._bound()) - set(self._lost()))

    def _bound(self) -> list[str]:
        return sorted(set().union(*(names_used(cell.source)[0] for cell in self.reruns)))

    def _lost(self) -> list[str]:
        """Names of which no old value will be kept."""
        namespace = self.host.namespace
        return [name for name in self._bound() if name in namespace and not keepable(namespace[name])]

    def _to_run_again(self, lost: Iterable[str]) -> list[Cell]:
        """The cells as they stand that made the values that are not kept."""
        edited = {edit.cell.number: edit.cell for edit in self.edits}
        cells = (edited.get(cell.number, cell) for cell in self._made)
        return [cell for cell in cells if names_used(cell.source)[0] & set(lost)]

    @property
    def sources(self) -> tuple[str, ...]:
        """The new source of each edited cell, for copying or for putting into the notebook."""
        return tuple(edit.source for edit in self.edits)

    def preview(self) -> Preview:
        diffs = [diff(edit.cell.source, edit.source, edit.cell.label) for edit in self.edits]
        names = ", ".join(cell.label for cell in self.reruns)
        note = f"Then runs again, in this order: {names}. {self._takes_back()}"
        return Preview("diff", "\n".join(diffs), f"{self.note} {note}".strip())

    def execute(self, progress: Progress) -> str:
        self._before = Bindings(self.host.namespace, self._bound())
        labels = ", ".join(edit.cell.label for edit in self.edits)
        return f"Used an edited copy of {labels}."

    def verify(self, progress: Progress) -> Verification:
        try:
            return super().verify(progress)
        finally:
            if self._before is not None:
                self._before.settle()

    def undo(self) -> str:
        before, self._before = self._before, None
        if before is None:
            raise PlanError("There is nothing to undo.")
        since = before.bound_since()
        told = [f"Put back: {_names(before.restore()) or 'nothing'}."]
        lost = set(before.lost) - set(since)
        again = self._to_run_again(lost)
        told += [self._run_again(cell) for cell in again]
        lost -= set().union(*(names_used(cell.source)[0] for cell in again))
        if lost:
            told.append(f"Not put back, for tensors are not kept: {_names(sorted(lost))}.")
        if since:
            told.append(f"Left as they are, because they were bound since: {_names(since)}.")
        return " ".join([*told, "Your cells' text was not changed."])

    def _run_again(self, cell: Cell) -> str:
        result = self.host.run(cell)
        if result.deferred:
            return f"Run {cell.label} again as it stands: {result.deferred}"
        return f"Ran {cell.label} as it stands." if result.failure is None else f"{cell.label} as it stands failed."

    def _takes_back(self) -> str:
        """What Undo can and cannot do, to be said before anything is run."""
        if self._in_place:
            return "It cannot be undone: an object of yours is changed in place."
        if not self.undoable:
            names = _names(self._lost())
            return f"It cannot be undone: {names} cannot be kept." if names else "There will be nothing to undo."
        again = ", ".join(cell.label for cell in self._again)
        back = f"and runs {again} as it stands, for tensors are not kept" if again else ""
        return f"Undo binds the variables to what they were{back and ' '}{back}; what the cells change in place stays changed."


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def edit_cells(
    scene: Scene,
    change: Callable[[str], str],
    *,
    failure: Failure | None = None,
    note: str = "",
    every: bool = False,
    undoable: bool = True,
    fails: bool = True,
) -> EditCells:
    """Plan the edit of the newest cell in which ``change`` changes something (``every``: of all that feed the last cell).

    ``undoable=False`` says that the edited cells change an object in place, which binding names cannot take back;
    ``fails=False`` that the last cell did not fail, and need not run again where it does not depend on the edit.
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
    return EditCells(
        scene.host, edits, _affected(cells, edits, fails), failure=failure, note=note, undoable=undoable, fails=fails
    )


def _newest_versions(cells: Sequence[Cell]) -> list[Cell]:
    """The history in which a cell that was run several times stands once, where it was run last."""
    newest: dict[str, Cell] = {}
    for cell in cells:
        key = cell.id or cell.source
        newest.pop(key, None)
        newest[key] = cell
    return list(newest.values())


def _affected(cells: Sequence[Cell], edits: Sequence[CellEdit], fails: bool) -> list[Cell]:
    """The edited cells with their new source, those after them that read what they bind, and the last cell if it failed."""
    new = {edit.cell: edit.source for edit in edits}
    reruns: list[Cell] = []
    tainted: set[str] = set()
    for position, cell in enumerate(cells):
        source = new.get(cell, cell.source)
        bound, read = names_used(source)
        failing = fails and position == len(cells) - 1
        if cell in new or read & tainted or (failing and reruns):
            reruns.append(replace(cell, source=source))
            tainted |= bound
    return reruns


def diff(before: str, after: str, label: str) -> str:
    """A unified diff of a cell's source."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{label}, now", f"{label}, fixed", lineterm="", n=2
    )
    return "\n".join(lines)
