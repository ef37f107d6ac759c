"""Puts the new text of cells into the notebook that the person has open, through the page's own undo, and runs them there.

A kernel cannot write into a notebook; a widget's code in the page can. One widget a kernel, never displayed, is that link. It is made
with anywidget (0.9 and later), where that is installed in the kernel and in the server; whether the page can do it shows in its answer:
none, or ``unable``, and the person copies the text as before.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
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
}
"""Why nothing was written, by the page's answer."""
RUN = "tfdiag-run"
"""The class of the panel's button that runs cells in the page, by which the page knows that it was clicked there."""
UNABLE = "The page did not run it: click into the cell and press Shift+Enter."
FORGET_AFTER = 10.0
"""Seconds after which a request that nobody answered is taken back, so that a page opened later does not carry it out."""


@dataclass(frozen=True)
class Change:
    """The text of a cell of the notebook before and after; ``id`` is the notebook's, ``label`` what people call the cell."""

    id: str
    label: str
    before: str
    after: str

    @property
    def back(self) -> Change:
        """The change that takes this one back."""
        return Change(self.id, self.label, self.after, self.before)


def changes_of(plan: Plan) -> tuple[Change, ...]:
    """What a plan changes in the notebook's text; nothing where it edits no cell, or one whose id is not known."""
    edits: Sequence[CellEdit] = getattr(plan, "edits", ())
    changes = tuple(Change(edit.cell.id, edit.cell.label, edit.cell.source, edit.source) for edit in edits)
    return changes if all(change.id for change in changes) else ()


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

        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Sequence[Change], Told]] = {}
        self._widget: Any = Link()
        self._widget.on_msg(self._answered)

    def write(self, changes: Sequence[Change], told: Told) -> None:
        """Ask the page to write these texts, all or none; where it cannot, ``told`` is never called."""
        asked = [{"id": one.id, "before": one.before, "after": one.after} for one in changes]
        self._ask({"changes": asked}, changes, told)

    def run(self, ids: Sequence[str], told: Told) -> None:
        """Ask the page in which the panel's button (class ``RUN``) was clicked to run these cells, in order, as a person would.

        ``told`` is called, with a sentence, where it could not.
        """
        self._ask({"run": list(ids)}, (), told)

    def _ask(self, request: dict[str, Any], changes: Sequence[Change], told: Told) -> None:
        number = next(self._numbers)
        self._waiting = {number: (tuple(changes), told)}
        self._widget.request = {"number": number, **request}
        kernel = getattr(self._widget.comm, "kernel", None)
        if kernel is not None:
            kernel.io_loop.call_later(FORGET_AFTER, self._forget, number)

    def _answered(self, widget: object, content: Any, buffers: object) -> None:
        waiting = self._waiting.pop(content.get("number"), None)
        if waiting is None:  # a second page with the same notebook
            return
        changes, told = waiting
        self._widget.request = {}
        outcome = content.get("outcome")
        refused = next((one.label for one in changes if one.id == content.get("id")), "The cell")
        if outcome == "replaced":
            told("")
        elif outcome == "unable" and not changes:
            told(UNABLE)
        elif outcome in REFUSED:
            told(REFUSED[outcome].format(cell=refused[:1].upper() + refused[1:]))

    def _forget(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
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
