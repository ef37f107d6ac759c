"""Puts the new text of cells into the notebook that the person has open, through the page's own undo, and runs them there.

A kernel cannot write into a notebook; a widget's code in the page can. One widget a kernel, never displayed, is that link. It is made
with anywidget (0.9 and later), where that is installed in the kernel and in the server; whether the page can do it shows in its answer:
none, or ``unable``, and the person copies the text as before.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import CellEdit
from tfdiag_ipython.render.html import resource

REFUSED = {
    "edited": "{cell} was edited since, so its text was left alone.",
    "gone": "{cell} is no longer in the notebook.",
    "locked": "{cell} is read-only, so its text was left alone.",
    "unable": "This page cannot write into the notebook's cells.",
}
"""Why nothing was done, by the page's answer."""
NOT_RUN = "The page did not run it: click into the cell and press Shift+Enter."
"""Why nothing was done by a page that is ``unable``, where the text stands in the cells already."""
DISCONNECTED = "jupyter-widgets-disconnected"
OWNER = f"tfdiag-{secrets.token_hex(4)}"
"""The class of all panels of this kernel, by which the page finds them when the kernel is gone."""
UNANSWERED = "No page of this notebook answered: reload the page, and click once more."
FORGET_AFTER = 10.0
"""Seconds after which a request that nobody answered is taken back, so that a page opened later does not carry it out."""


@dataclass(frozen=True)
class Change:
    """The text of a cell of the notebook before and after; ``id`` is the notebook's, ``label`` what people call the cell.

    It may also hold what an ``earlier`` fix made of it.
    """

    id: str
    label: str
    before: str
    after: str
    earlier: str = ""

    @property
    def back(self) -> Change:
        """The change that takes this one back."""
        return Change(self.id, self.label, self.after, self.before)


def changes_of(plan: Plan) -> tuple[Change, ...]:
    """What a plan changes in the notebook's text; nothing where it edits no cell, or one whose id is not known."""
    edits: Sequence[CellEdit] = getattr(plan, "edits", ())
    changes = tuple(Change(edit.cell.id, edit.cell.label, edit.cell.source, edit.source) for edit in edits)
    return changes if all(change.id for change in changes) else ()


def _gone() -> str:
    """What the page adds to its style when this kernel is gone: the same as for a panel that ipywidgets finds disconnected."""
    lines = [line for line in resource("panel.css").splitlines() if DISCONNECTED in line]
    return "".join(lines).replace(DISCONNECTED, OWNER)


Told = Callable[[str], None]
"""Takes the page's answer: empty when the text was written, else a sentence that says why it was not."""


class CellLink:
    """The link of this kernel; make it by :func:`cell_link`."""

    def __init__(self) -> None:
        import anywidget
        import traitlets

        class Link(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]
            _esm = resource("cell_link.js")
            request = traitlets.Dict().tag(sync=True)
            gone = traitlets.Unicode(_gone()).tag(sync=True)
            owner = traitlets.Unicode(OWNER).tag(sync=True)

        self.able = False
        """Whether a page has said that it can write into the notebook."""
        self._when_able: list[Callable[[], None]] = []
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Sequence[Change], Told, bool, bool]] = {}
        self._widget: Any = Link()
        self._widget.on_msg(self._answered)

    def when_able(self, action: Callable[[], None]) -> None:
        """Do this once a page can write into the notebook; at once where one can."""
        if self.able:
            action()
        else:
            self._when_able.append(action)

    def ask(
        self,
        changes: Sequence[Change],
        told: Told,
        *,
        run: Sequence[str] = (),
        pressed: str = "",
        quietly: bool = False,
    ) -> None:
        """Ask the page to write these texts, all or none, and then to run these cells, in order.

        Where the notebook stands in several pages, the one in which the button ``pressed`` was clicked does it, and the others then
        write the same. ``told`` learns whether it was written and begins to run; ``quietly``, it hears nothing where no page can write.
        """
        number = next(self._numbers)
        asked = [
            {"id": one.id, "now": [one.before, one.earlier or one.before, one.after], "after": one.after}
            for one in changes
        ]
        self._waiting[number] = (tuple(changes), told, quietly, bool(pressed and changes))
        self._widget.request = {"number": number, "changes": asked, "run": list(run), "pressed": pressed}
        kernel = getattr(self._widget.comm, "kernel", None)
        if kernel is not None:
            kernel.io_loop.call_later(FORGET_AFTER, self._forget, number)

    def _answered(self, widget: object, content: Any, buffers: object) -> None:
        if content.get("able"):
            self.able = True
            waiting, self._when_able = self._when_able, []
            for action in waiting:
                action()
        asked = self._waiting.pop(content.get("number"), None)
        if asked is None:  # a second page with the same notebook
            return
        changes, told, quietly, alone = asked
        self._done(content.get("number"))
        outcome = content.get("outcome")
        if outcome == "replaced" and alone:
            self.ask(changes, lambda refusal: None, quietly=True)
        refused = next((one.label for one in changes if one.id == content.get("id")), "the cell")
        if outcome == "replaced":
            told("")
        elif outcome == "unable":
            if not quietly:
                told(REFUSED[outcome] if changes else NOT_RUN)
        elif outcome in REFUSED:
            told(REFUSED[outcome].format(cell=refused[:1].upper() + refused[1:]))

    def _forget(self, number: int) -> None:
        asked = self._waiting.pop(number, None)
        if asked is None:
            return
        self._done(number)
        _, told, quietly, _ = asked
        if not quietly:
            told(UNANSWERED)

    def _done(self, number: int | None) -> None:
        """Take a request back, so that a page opened later does not carry it out."""
        if self._widget.request.get("number") == number:
            self._widget.request = {}


def scratch_cell() -> Callable[[str], None] | None:
    """Colab's own function that opens a cell beside the notebook, once the person has agreed to it; ``None`` elsewhere.

    Source: ``create_scratch_cell`` in ``google/colab/_frontend.py`` of googlecolab/colabtools. It waits for the person; Stop ends that.
    """
    if "google.colab" not in sys.modules:
        return None
    try:
        frontend = importlib.import_module("google.colab._frontend")
    except ImportError:
        return None
    return getattr(frontend, "create_scratch_cell", None)


@cache
def cell_link() -> CellLink | None:
    """The link, made when it is first asked for; ``None`` where it cannot work: no anywidget, or Colab's page."""
    if "google.colab" in sys.modules or importlib.util.find_spec("anywidget") is None:
        return None
    return CellLink()
