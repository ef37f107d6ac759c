"""What panels do with the notebook's cells: a fix is written into their text and taken back, and they are run there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.render.cell_link import Change, Told, cell_link, changes_of
from tfdiag_ipython.render.panel_markup import AS_IT_WAS, refused, wrapped, written

WRITES = (Status.VERIFIED, Status.OTHER_FAILURE, Status.PENDING)
"""How a fix ends that belongs into the notebook: the failure is gone (even if the next one came to light), or it shows when the person
runs the cell."""


@dataclass(frozen=True)
class Undone:
    """What an Undo took back, in words, and the changes of the notebook's text that are to be taken back with it."""

    told: str
    changes: tuple[Change, ...]


class NotebookText:
    """The notebook's text, as far as fixes changed it since a cell of the person's ran: what Undo takes back, whichever panel offers it."""

    def __init__(self) -> None:
        self._changed: dict[str, Change] = {}
        self._held: list[Plan] = []  # those whose text that is, the newest last

    def takes(self, plan: Plan) -> bool:
        """Whether the page can write this plan into the notebook's cells."""
        link = cell_link() if changes_of(plan) else None
        return link is not None and link.able

    def write(
        self, plan: Plan, verification: Verification, shown: Any, wrote: Callable[[], None], pressed: str
    ) -> None:
        """Write a fix into its cells where the page can; until it says so, the new source stands in ``shown`` to be copied.

        ``wrote`` is called when the cells hold it.
        """
        changes = self._from_now(plan) if verification.status in WRITES else ()
        link = cell_link() if changes else None
        if link is None:
            return

        def told(refusal: str) -> None:
            shown.value = wrapped(refused(refusal, plan) if refusal else written(cells_of(changes)))
            if not refusal:
                self._keep(plan, changes)
                wrote()

        link.ask(changes, told, pressed=pressed, quietly=True)

    def put(self, plan: Plan, told: Told, *, run: bool, pressed: str) -> None:
        """Write a fix into its cells without having tried it, and have the page ``run`` what the plan runs: their output takes the old one's place."""
        changes = self._from_now(plan)
        now = [replace(one, before=one.earlier or one.before, earlier="") for one in changes]
        link = cell_link()
        assert link is not None

        def answered(refusal: str) -> None:
            if not refusal:
                self._let_go()  # a cell is to run: what an earlier fix changed stays
                self._keep(plan, now)
            told(refusal)

        link.ask(changes, answered, run=[cell.id for cell in plan.reruns] if run else (), pressed=pressed)

    def run(self, plan: Plan, told: Told, pressed: str) -> None:
        """Have the page run the cells of a plan, which hold it already; says why it could not."""
        link = cell_link()
        if link is not None:
            link.ask((), told, run=[cell.id for cell in plan.reruns], pressed=pressed)

    def undo(self, plan: Plan) -> Undone:
        """Take a plan back: what was done, and the text that goes with it. Raises ``TfdiagError`` where nothing can be taken back."""
        try:
            told = plan.undo()
        except PlanError as error:
            if not self.holds(plan):
                by_hand = " Ctrl+Z in a cell takes the fix out of its text." if self.takes(plan) else ""
                raise PlanError(f"{error}{by_hand}") from None
            told = str(error) if plan.forgotten else ""
        if not any(held is plan for held in self._held):
            return Undone(told, ())
        changes = tuple(self._changed.values())
        self._let_go()
        return Undone(told, changes)

    def write_back(self, undone: Undone, say: Callable[[str], None], pressed: str) -> None:
        """Put the cells' text back after an Undo."""
        told, changes = undone.told, undone.changes
        link = cell_link() if changes else None
        if link is None:
            say(f"{told} {AS_IT_WAS}".strip())
            return
        cells = cells_of(changes)
        was = f"The text of {cells} is as it was."
        say(f"{told} Where {cells} still holds the fix, the cell's own undo (Ctrl+Z) takes it out.".strip())
        link.ask(
            [change.back for change in changes],
            lambda refusal: say(f"{told} {refusal or was}".strip()),
            pressed=pressed,
            quietly=True,
        )

    def holds(self, plan: Plan) -> bool:
        """Whether this plan is the newest that the notebook's text holds, so that it can be taken back."""
        return self._held[-1:] == [plan]

    def _let_go(self) -> None:
        self._changed, self._held = {}, []

    def _from_now(self, plan: Plan) -> tuple[Change, ...]:
        """What a plan changes in the text as earlier fixes left it: the program's history knows only what the person ran."""
        if self._held and self._held[-1].forgotten:
            self._let_go()
        held = self._changed
        return tuple(
            Change(one.id, one.label, held[one.id].before, one.after, held[one.id].after) if one.id in held else one
            for one in changes_of(plan)
        )

    def _keep(self, plan: Plan, changes: Sequence[Change]) -> None:
        self._changed |= {change.id: change for change in changes}
        self._held.append(plan)


TEXT = NotebookText()
"""One a kernel, as the link is."""


def to_run(plan: Plan) -> str:
    """The cells that a plan runs, where the page can find each of them and none asks for input; else empty."""
    runs = all(cell.id and "input(" not in cell.source for cell in plan.reruns)
    return " and ".join(cell.label for cell in plan.reruns) if runs else ""


def cells_of(changes: Sequence[Change]) -> str:
    """Such as ``cell 3 and cell 5``."""
    return " and ".join(change.label for change in changes)
