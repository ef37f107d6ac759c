"""Checks that are due when a cell runs next: is the failure gone that a fix was to cure?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfdiag_ipython.bindings import Bindings

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.fix import Plan
    from tfdiag_ipython.probe import Cell
    from tfdiag_ipython.shell.session import ShellSession


class Pending:
    """A fix whose proof is the next run of a cell; ``put`` is the plan that the notebook's text holds, and whose it is."""

    def __init__(self, failure: Failure, cells: Sequence[Cell], put: tuple[Plan, ShellSession] | None) -> None:
        self.failure = failure
        self.cells = tuple(cells)
        self.put = put
        self._bindings = Bindings(put[0].host.namespace) if put is not None else None

    def is_of(self, plan: Plan) -> bool:
        """Whether this plan was put into the notebook's text."""
        return self.put is not None and self.put[0] is plan

    def is_about(self, cell: Cell) -> bool:
        return any(_is_same(wanted, cell) for wanted in self.cells)

    def begin(self, cell: Cell) -> None:
        """A cell begins that may be none of the plan's, or was edited since: then Undo would take back the person's own work."""
        if self.put is None:
            return
        if not any(_is_same(wanted, cell) and _reads_same(wanted, cell) for wanted in self.put[0].reruns):
            self._bindings = None

    def undoable(self) -> tuple[Plan, ShellSession] | None:
        """The plan, which has run and can be taken back now."""
        if self.put is None or self._bindings is None:
            return None
        self._bindings.settle()
        self.put[0].bindings = self._bindings
        return self.put if self.put[0].undoable else None


def _is_same(wanted: Cell, cell: Cell) -> bool:
    return wanted.id == cell.id if wanted.id and cell.id else _reads_same(wanted, cell)


def _reads_same(wanted: Cell, cell: Cell) -> bool:
    return wanted.source.strip() == cell.source.strip()
