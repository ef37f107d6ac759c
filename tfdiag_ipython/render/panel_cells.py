"""What a panel does with the notebook's cells: a fix is written into their text and taken back, and they are run there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.render.cell_link import Change, cell_link, changes_of
from tfdiag_ipython.render.panel_markup import AS_IT_WAS, said, sources, wrapped, written

WRITES = (Status.VERIFIED, Status.OTHER_FAILURE, Status.PENDING)
"""How a fix ends that belongs into the notebook: the failure is gone (even if the next one came to light), or it shows when the person
runs the cell."""


class NotebookText:
    """The notebook's text, as far as the newest fix of a panel changed it."""

    def __init__(self) -> None:
        self._written: tuple[Change, ...] = ()

    def begin(self, plan: Plan) -> None:
        """A fix is about to be carried out: the page gets ready for it meanwhile."""
        self._written = ()
        if changes_of(plan):
            cell_link()

    def write(self, plan: Plan, verification: Verification, shown: Any, wrote: Callable[[], None]) -> None:
        """Write a fix into its cells where the page can; until it says so, the new source stands in ``shown`` to be copied.

        ``wrote`` is called when the cells hold it.
        """
        changes = changes_of(plan) if verification.status in WRITES else ()
        link = cell_link() if changes else None
        if link is None:
            return

        def told(refusal: str) -> None:
            self._written = () if refusal else changes
            kept = said(refusal) + sources(plan, folded=False) if refusal else written(_cells(changes))
            shown.value = wrapped(kept)
            if not refusal:
                wrote()

        link.write(changes, told)

    def run(self, plan: Plan, say: Callable[[str], None]) -> None:
        """Have the page run the cells that a plan runs, whose output then takes the place of the old one; says why it could not."""
        link = cell_link()
        if link is not None:
            link.run([cell.id for cell in plan.reruns], say)

    def write_back(self, undone: str, say: Callable[[str], None]) -> None:
        """Put the cells' text back after an Undo, of which ``undone`` tells."""
        changes, self._written = self._written, ()
        link = cell_link() if changes else None
        if link is None:
            say(f"{undone} {AS_IT_WAS}")
            return
        say(undone)
        back = [change.back for change in changes]
        link.write(back, lambda refusal: say(f"{undone} {refusal or f'The text of {_cells(changes)} is as it was.'}"))


def to_run(plan: Plan) -> str:
    """The cells that a plan runs, where the page can find each of them; else empty."""
    ids = [cell.id for cell in plan.reruns]
    return " and ".join(cell.label for cell in plan.reruns) if all(ids) else ""


def _cells(changes: Sequence[Change]) -> str:
    """Such as ``cell 3 and cell 5``."""
    return " and ".join(change.label for change in changes)
