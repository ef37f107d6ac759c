"""Views that change the program: one change at a time in the whole kernel, and what was changed can be taken back where it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tfdiag_ipython.errors import TfdiagError
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.render.panel_cells import TEXT, Undone
from tfdiag_ipython.render.panel_markup import said
from tfdiag_ipython.render.view import STOPPED, View, log

WAIT = "Another fix is running: wait for it to end."
RUNNING = threading.Lock()
"""Held while a fix runs, by whichever panel: two fixes at once would verify each other's work."""
_Result = TypeVar("_Result")


class Acting(View):
    """A view with an Undo."""

    _works = False
    """Whether it is this view's own fix that runs."""

    def _must_wait(self) -> bool:
        """Whether a fix runs; this view's own goes on showing its progress."""
        if RUNNING.locked() and not self._works:
            self._say(WAIT)
        return RUNNING.locked()

    def _undo(self, plan: Plan) -> None:
        if self._must_wait():
            return
        captured = self._output()
        self._fill(self._stage, [self._html(said("Undoing …")), captured])
        outcome: Undone | str = STOPPED
        with captured:  # cells may run again as they stand; what leaves the block would be swallowed
            outcome = carry_out(partial(TEXT.undo, plan), "Undo")
        if isinstance(outcome, str):
            self._say(outcome)
            return
        self._taken_back()
        TEXT.write_back(outcome, self._say, self._pressed)

    def _taken_back(self) -> None:
        """Nothing more is to be told of the fix."""


class Taken(Acting):
    """Under a cell that ran with the fix that was put into it: Undo, until another cell runs."""

    def __init__(self, plan: Plan, on_main_thread: Callable[[Callable[[], None]], bool]) -> None:
        super().__init__(on_main_thread)
        self._stand([self._row([self._button("Undo", partial(self._undo, plan))]), self._stage])


def carry_out(work: Callable[[], _Result], what: str = "The fix") -> _Result | str:
    """The outcome, or one sentence that says why there is none."""
    try:
        return work()
    except KeyboardInterrupt:
        return STOPPED
    except TfdiagError as error:
        return str(error)
    except BaseException as error:
        log.exception("%s failed.", what)
        return f"{what} failed ({type(error).__name__}); `%tfdiag report` has the details."
