"""The interactive part under a diagnosis: its fixes as buttons, their preview, run, verification and undo.

The diagnosis itself stands above in durable HTML; the panel says nothing that would be lost with it. Everything but the
buttons is built on demand, and layouts are shared: each widget costs a message to the front end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

from tfdiag_ipython.diagnosis import Applicability, Diagnosis, Fix, Status, Verification
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import asks_first
from tfdiag_ipython.render.acting import RUNNING, Acting, Taken, carry_out
from tfdiag_ipython.render.cell_link import cell_link, changes_of, scratch_cell
from tfdiag_ipython.render.panel_cells import TEXT, cells_of, to_run
from tfdiag_ipython.render.panel_markup import copyable, ended, preview, refused, said, sources, wrapped
from tfdiag_ipython.render.text import SAFETY, SHOWN, TITLE_LIMIT, line, silenced
from tfdiag_ipython.render.view import STOPPED, Teller, View

LIVE_PANELS = 20
"""Panels whose widgets stay open; older ones are closed, so that a long session leaks neither comms nor undo data."""
SHOWN_FIRST = "One that is unsafe, cannot be undone, or runs something twice is shown first."
AT_ONCE = f"A safe fix needs one click. {SHOWN_FIRST}"
INTO_CELL = f"A safe fix needs one click; an edit goes into your cell itself. {SHOWN_FIRST}"
RUN_IT = "Run it; I will check it then."
TWICE = 0.3
"""Seconds after a fix in which one more click on its button is the second of a double click, which waited for the kernel meanwhile."""
SEND = "A report of it, redacted, to copy into an issue (nothing is sent by itself):"


class Session(Protocol):
    """What a panel may ask of the failure that it stands under."""

    diagnoses: list[Diagnosis]

    def plan(self, diagnosis: Diagnosis, fix: Fix) -> Plan:
        """Work a fix out; raises ``TfdiagError`` with one sentence."""

    def apply(self, plan: Plan, progress: Progress) -> tuple[str, Verification]:
        """Carry it out: what was done, and how it ended; raises ``TfdiagError`` with one sentence."""

    def check(self, plan: Plan, progress: Progress) -> Verification:
        """How it ended, where ``apply`` could not tell."""

    def expect(self, plan: Plan, *, put: bool = False) -> Verification:
        """Say under the failing cell, when it runs next, whether the failure is gone.

        ``put`` says that the plan was not carried out but put into the notebook's text: what that run binds, its Undo takes back.
        """

    def withdraw(self, plan: Plan) -> None:
        """It was not put there after all: the next run of the cell is the person's own."""

    def on_main_thread(self, action: Callable[[], None]) -> bool:
        """Have the main thread do this once it is free, if this is another; whether it will."""

    def report(self) -> str:
        """The redacted report, as Markdown."""

    def reject(self, code: str) -> str:
        """Silence a rule whose diagnosis is wrong; the redacted report that says so, as Markdown."""

    def page(self, code: str) -> str:
        """A rule's page, as Markdown."""


_live: deque[View] = deque()
_Outcome = tuple[str, Verification]
_Kept = TypeVar("_Kept", bound=View)


def make_panel(session: Session) -> Panel | None:
    """A panel for the session's diagnoses, to be displayed by its ``bundle``; ``None`` when there is none to act on."""
    return _kept(Panel(session)) if session.diagnoses else None


def make_undo(plan: Plan, on_main_thread: Callable[[Callable[[], None]], bool]) -> Taken:
    """What stands below a cell that has run with the fix in it, to be displayed by its ``bundle``."""
    return _kept(Taken(plan, on_main_thread))


def _kept(view: _Kept) -> _Kept:
    while len(_live) >= LIVE_PANELS:
        _live.popleft().close()
    _live.append(view)
    return view


class Panel(Acting):
    """The widgets under one failure. It keeps values, and of a fix that was carried out its plan, for Undo."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.on_main_thread)
        self.session = session
        self._idle: dict[str, Any] = {}  # the buttons that can be clicked while no fix runs
        self._rows: dict[str, Any] = {}  # the fixes of each diagnosis
        self._aside_of = ""
        self._wrong: dict[str, str] = {}
        # what was put into the notebook's cells, whatever came of it there
        self._placed: tuple[Fix, Plan] | None = None
        self._done: tuple[str, float] = ("", 0.0)
        first, *others = session.diagnoses[:SHOWN]
        rows = []
        if _executable(first):
            self._rows[first.code] = self._row(self._fix_buttons(first))
            rows.append(self._rows[first.code])
        self._note = self._html(f'<p class="tfdiag-quiet">{AT_ONCE}</p>' if _has_safe(session.diagnoses[:1]) else "")
        rows.append(self._note)
        rows += [self._alternative(other) for other in others if _executable(other)]
        explain = self._tool("Explain this rule", partial(self._explain, first.code))
        report = self._tool("Show report to copy", self._report)
        wrong = self._tool("This diagnosis is wrong", partial(self._reject, first.code))
        self._tools = self._row([explain, report, wrong])
        self._stand([*rows, self._stage, self._tools])

    @cached_property
    def _outcome(self) -> Any:
        """Of the newest fix that was carried out, with its Undo; what is said since stands above it."""
        return self._box_below(self._stage)

    @cached_property
    def _aside(self) -> Any:
        """The rule's page, or a report."""
        return self._box_below(self._tools)

    def displayed(self) -> None:
        """It stands on the page: have the page say whether it can hold the fix in the notebook's own cell."""
        link = cell_link() if _executable(self.session.diagnoses[0]) else None
        if link is not None:
            link.when_able(self._tell_able)

    def _tell_able(self) -> None:
        # else it was closed meanwhile, or there is nothing to tell
        if self._note.comm is not None and self._note.value != wrapped(""):
            self._note.value = wrapped(f'<p class="tfdiag-quiet">{INTO_CELL}</p>')

    # the fixes

    def _fix_buttons(self, diagnosis: Diagnosis) -> list[Any]:
        buttons = []
        for fix in _executable(diagnosis):
            label = f"{line(fix.label, TITLE_LIMIT)} ({fix.applicability.value})"
            button = self._button(label, partial(self._choose, diagnosis, fix), tooltip=SAFETY[fix.applicability])
            self._idle[button.model_id] = button
            buttons.append(button)
        return buttons

    def _alternative(self, diagnosis: Diagnosis) -> Any:
        """A line that unfolds the fixes of a diagnosis that is not the first."""
        row = self._rows[diagnosis.code] = self._row([])

        def unfold() -> None:
            wrong = self._tool(f"It is not {line(diagnosis.code)}", partial(self._reject, diagnosis.code))
            self._fill(row, [*self._fix_buttons(diagnosis), wrong])

        row.children = (self._tool(f"Fixes, if it is {line(diagnosis.code)}", unfold),)
        return row

    def _choose(self, diagnosis: Diagnosis, fix: Fix) -> None:
        if self._must_wait():
            return
        button, when = self._done
        if button == self._pressed and time.monotonic() - when < TWICE:
            return
        if self._placed is not None and self._placed[0] is fix and TEXT.holds(self._placed[1]):
            self._say(f"The text of {cells_of(changes_of(self._placed[1]))} holds this fix already.")
            return
        plan = self.session.plan(diagnosis, fix)
        cells = to_run(plan) if TEXT.takes(plan) else ""
        asks = fix.applicability is not Applicability.SAFE or asks_first(plan)
        if not asks and cells:
            self._put(fix, plan, run=True)
        elif not asks:
            self._run(plan)
        else:
            shown = self._html(preview(plan.preview()) + sources(plan, folded=True))
            cancel = self._button("Cancel", partial(self._say, "Nothing was changed."))
            self._fill(self._stage, [shown, self._row([*self._ways(fix, plan, cells), cancel])])

    def _ways(self, fix: Fix, plan: Plan, cells: str) -> list[Any]:
        """The buttons that carry a previewed plan out; ``cells`` are those that the page can run for it, in words."""
        here = partial(self._run, plan)
        if not TEXT.takes(plan):
            return [self._button("Apply", here, kind="primary")]
        put = f"Put into the {'cells' if len(changes_of(plan)) > 1 or len(plan.reruns) > 1 else 'cell'}"
        if not cells:  # only the person can run them: they ask for input, say
            return [self._button(put, partial(self._put, fix, plan, run=False), kind="primary")]
        return [
            self._button(
                f"{put} and run",
                partial(self._put, fix, plan, run=True),
                kind="primary",
                tooltip=f"Writes the fix into the notebook and runs {cells} there",
            ),
            self._button(put, partial(self._put, fix, plan, run=False)),
            self._button("Try it here first", here, tooltip="Runs an edited copy below these buttons"),
        ]

    def _put(self, fix: Fix, plan: Plan, *, run: bool) -> None:
        """Have the page write the plan into the notebook's cells, and run them there."""
        if self._must_wait():
            return
        label, pressed = cells_of(changes_of(plan)), self._pressed
        self._say(f"Writing the fix into {label} …")

        def told(refusal: str) -> None:
            if refusal:
                self.session.withdraw(plan)
                self._fill(self._stage, [self._html(refused(refusal, plan))])
                return
            runs = to_run(plan)
            then = f"{runs[:1].upper()}{runs[1:]} runs now; what comes of it is said there." if run else RUN_IT
            holds = self._html(said(f"The text of {label} now holds the fix. {then}"))
            self._placed = fix, plan
            self._fill(self._stage, [])
            self._fill(self._outcome, [holds, self._row([self._undo_button(plan)])])

        self.session.expect(plan, put=True)
        self._done = self._pressed, time.monotonic()
        TEXT.put(plan, told, run=run, pressed=pressed)

    def _run(self, plan: Plan) -> None:
        """Carry a plan out: on this thread, where the kernel's Stop reaches the person's code, or beside it."""
        self._start(plan, partial(self.session.apply, plan), threaded=plan.threaded)

    def _check(self, plan: Plan) -> None:
        """Verify on this thread what a plan did beside it."""
        self._start(plan, lambda progress: ("", self.session.check(plan, progress)), threaded=False)

    def _start(self, plan: Plan, work: Callable[[Progress], _Outcome], *, threaded: bool) -> None:
        if self._must_wait() or not RUNNING.acquire(blocking=False):
            return
        self._works = True
        try:
            told = self._html("")
            progress = Progress(Teller(told, "" if threaded else "The kernel's Stop button cancels it."))
            captured = self._output()
            cancel = [self._row([self._button("Cancel", progress.cancel)])] if threaded else []
            self._fill(self._stage, [told, *cancel, captured])
            self._able(False)
        except BaseException:
            self._works = False
            RUNNING.release()
            raise
        if threaded:
            arguments = (plan, partial(work, progress), captured, False)
            threading.Thread(target=self._finish, args=arguments, name="tfdiag-fix", daemon=True).start()
        else:
            self._finish(plan, partial(work, progress), captured, True)

    def _finish(self, plan: Plan, work: Callable[[], _Outcome], captured: Any, captures: bool) -> None:
        """Do the work and show how it ended; the output of cells that it runs again goes into the panel."""
        outcome: _Outcome | str = "The fix was left before its end."
        try:
            with captured if captures else nullcontext():  # another thread's output has no place in the notebook
                outcome = carry_out(work)
        finally:
            self._works = False
            self._done = self._pressed, time.monotonic()
            RUNNING.release()
            self._able(True)
            if isinstance(outcome, str):
                self._left(plan, outcome, captured)
            else:
                self._end(plan, *outcome, captured)

    def _left(self, plan: Plan, sentence: str, captured: Any) -> None:
        """It did not come to its end: what an earlier fix did, and its Undo, still stand below."""
        undo = [self._row([self._undo_button(plan)])] if plan.undoable and sentence == STOPPED else []
        self._fill(self._stage, [self._html(said(sentence)), *undo, captured])

    def _end(self, plan: Plan, done: str, verification: Verification, captured: Any) -> None:
        buttons = []
        stale = getattr(plan, "stale", ())
        if verification.status is Status.PENDING and plan.threaded and plan.reruns and not stale:
            buttons.append(self._button("Check it now", partial(self._check, plan)))
        if plan.undoable:
            buttons.append(self._undo_button(plan))
        elsewhere = scratch_cell()
        if elsewhere is not None and (new := "\n\n".join(getattr(plan, "sources", ()))):
            buttons.append(self._button("Open in a scratch cell", partial(elsewhere, new)))
        text, row = self._html(sources(plan, folded=False)), self._row(buttons)
        self._fill(self._stage, [captured])
        self._stage.children = ()  # it moves down, and lives on
        self._fill(self._outcome, [self._html(ended(done, verification)), row, text, captured])
        TEXT.write(plan, verification, text, partial(self._offer_run, plan, row), self._pressed)

    def _offer_run(self, plan: Plan, row: Any) -> None:
        """The cells hold the fix: a button runs them in the notebook, so that their output there is the new one."""
        if cells := to_run(plan):
            run = partial(self._run_in_notebook, plan)
            row.children = (*row.children, self._button(f"Run {cells} in the notebook", run))

    def _run_in_notebook(self, plan: Plan) -> None:
        if self._must_wait():
            return
        self.session.expect(plan)
        TEXT.run(plan, self._refused, self._pressed)

    def _refused(self, refusal: str) -> None:
        if refusal:
            self._say(refusal)

    def _undo_button(self, plan: Plan) -> Any:
        button = self._button("Undo", partial(self._undo, plan))
        self._idle[button.model_id] = button
        return button

    def _dispose(self, widget: Any) -> None:
        self._idle.pop(widget.model_id, None)
        super()._dispose(widget)

    def _taken_back(self) -> None:
        self._fill(self._outcome, [])

    def _able(self, able: bool) -> None:
        for button in self._idle.values():
            button.disabled = not able

    # the rule's page and the report

    def _explain(self, code: str) -> None:
        if self._unfolds(code):
            page = self.session.page(code)
            data = {"text/markdown": page, "text/plain": page}
            shown = {"output_type": "display_data", "data": data, "metadata": {}}
            self._fill(self._aside, [self._output((shown,))])

    def _report(self) -> None:
        if self._unfolds("report"):
            self._fill(self._aside, [self._html(copyable(self.session.report(), "The report, as Markdown:"))])

    def _reject(self, code: str) -> None:
        """The fixes of this diagnosis go; those of the others stay, and so does what was carried out."""
        if self._unfolds(f"wrong {code}"):
            first = self.session.diagnoses[:1]
            report = self._wrong.get(code) or self.session.reject(code)
            self._wrong[code] = report  # the session knows no more of it now
            told = said(silenced(code)) + copyable(report, SEND)
            self._fill(self._aside, [self._html(told)])
            if code in self._rows:
                self._fill(self._rows.pop(code), [])
            if code in [diagnosis.code for diagnosis in first]:
                self._note.value = wrapped("")

    def _unfolds(self, what: str) -> bool:
        """Whether a second part is to be opened; the second click on its button closes it."""
        self._fill(self._aside, [])
        self._aside_of = "" if self._aside_of == what else what
        return bool(self._aside_of)


def _executable(diagnosis: Diagnosis) -> list[Fix]:
    """The fixes that a button can carry out; the others stand as text in the diagnosis."""
    return [fix for fix in diagnosis.fixes if fix.applicability is not Applicability.DISPLAY_ONLY]


def _has_safe(diagnoses: list[Diagnosis]) -> bool:
    return any(fix.applicability is Applicability.SAFE for diagnosis in diagnoses for fix in _executable(diagnosis))
