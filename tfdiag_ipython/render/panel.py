"""The interactive part under a diagnosis: its fixes as buttons, their preview, run, verification and undo.

The diagnosis itself stands above in durable HTML; the panel says nothing that would be lost with it. Everything but the
buttons is built on demand, and layouts are shared: each widget costs a message to the front end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

import ipywidgets as widgets

from tfdiag_ipython.diagnosis import Applicability, Diagnosis, Fix, Status, Verification
from tfdiag_ipython.errors import TfdiagError
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import asks_first
from tfdiag_ipython.render.cell_link import RUN, scratch_cell
from tfdiag_ipython.render.html import inline, resource
from tfdiag_ipython.render.panel_cells import NotebookText, to_run
from tfdiag_ipython.render.panel_markup import copyable, ended, preview, said, sources, wrapped
from tfdiag_ipython.render.text import SAFETY, SHOWN, TITLE_LIMIT, line, silenced

LIVE_PANELS = 20
"""Panels whose widgets stay open; older ones are closed, so that a long session leaks neither comms nor undo data."""
PROGRESS_EVERY = 0.5
PROGRESS_AT_ONCE = 20
"""Seconds between two progress messages once so many were shown: pip prints hundreds of lines, a run of cells names each in turn."""
STOPPED = "Cancelled before its end."
AT_ONCE = "A safe fix that can be undone and runs nothing twice is carried out at once; every other is shown first."
SEND = "A report of it, redacted, to copy into an issue (nothing is sent by itself):"
log = logging.getLogger("tfdiag")


class Session(Protocol):
    """What a panel may ask of the failure that it stands under."""

    diagnoses: list[Diagnosis]

    def plan(self, diagnosis: Diagnosis, fix: Fix) -> Plan:
        """Work a fix out; raises ``TfdiagError`` with one sentence."""

    def apply(self, plan: Plan, progress: Progress) -> tuple[str, Verification]:
        """Carry it out: what was done, and how it ended; raises ``TfdiagError`` with one sentence."""

    def expect(self, plan: Plan) -> Verification:
        """Say under the failing cell, when it runs next, whether the failure is gone."""

    def on_main_thread(self, action: Callable[[], None]) -> bool:
        """Have the main thread do this once it is free, if this is another; whether it will."""

    def report(self) -> str:
        """The redacted report, as Markdown."""

    def reject(self, code: str) -> str:
        """Silence a rule whose diagnosis is wrong; the redacted report that says so, as Markdown."""

    def page(self, code: str) -> str:
        """A rule's page, as Markdown."""


_live: deque[Panel] = deque()
_running = threading.Lock()
"""Held while a fix runs, by whichever panel: two fixes at once would verify each other's work."""
_Outcome = tuple[str, Verification]
_Result = TypeVar("_Result")


def make_panel(session: Session) -> Panel | None:
    """A panel for the session's diagnoses, to be displayed by its ``bundle``; ``None`` when there is none to act on."""
    if not session.diagnoses:
        return None
    panel = Panel(session)
    while len(_live) >= LIVE_PANELS:
        _live.popleft().close()
    _live.append(panel)
    return panel


class Panel:
    """The widgets under one failure. It keeps values, and of a fix that was carried out its plan, for Undo."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._layout = widgets.Layout()
        self._style = widgets.ButtonStyle()
        self._actions: dict[str, Callable[[], None]] = {}
        self._fixes: dict[str, Any] = {}
        self._aside_of = ""
        self._works = False
        self._text = NotebookText()
        self._stage = self._box([])
        self._aside = self._box([])
        first, *others = session.diagnoses[:SHOWN]
        rows = [self._html(f"<style>{resource('panel.css')}</style>")]
        if _executable(first):
            rows.append(self._row(self._fix_buttons(first)))
        if any(fix.applicability is Applicability.SAFE for fix in _executable(first)):
            rows.append(self._html(f'<p class="tfdiag-quiet">{AT_ONCE}</p>'))
        rows += [self._alternative(other) for other in others if _executable(other)]
        explain = self._tool("Explain this rule", partial(self._explain, first.code))
        report = self._tool("Show report to copy", self._report)
        wrong = self._tool("This diagnosis is wrong", partial(self._reject, first.code))
        self.root = self._box([*rows, self._stage, self._row([explain, report, wrong]), self._aside])
        self.root.add_class("tfdiag-panel")

    @property
    def bundle(self) -> dict[str, Any]:
        """What is displayed: the view, and nothing where there are no widgets, for the diagnosis stands above it."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.root.model_id}
        return {"application/vnd.jupyter.widget-view+json": view, "text/plain": "", "text/html": ""}

    def close(self) -> None:
        """Close every widget of this panel; the durable diagnosis above it stays."""
        self._dispose(self.root)
        self._layout.close()
        self._style.close()

    # the fixes

    def _fix_buttons(self, diagnosis: Diagnosis) -> list[Any]:
        buttons = []
        for fix in _executable(diagnosis):
            label = f"{line(fix.label, TITLE_LIMIT)} ({fix.applicability.value})"
            button = self._button(label, partial(self._choose, diagnosis, fix), tooltip=SAFETY[fix.applicability])
            self._fixes[button.model_id] = button
            buttons.append(button)
        return buttons

    def _alternative(self, diagnosis: Diagnosis) -> Any:
        """A line that unfolds the fixes of a diagnosis that is not the first."""
        row = self._row([])

        def unfold() -> None:
            self._fill(row, self._fix_buttons(diagnosis))

        row.children = (self._tool(f"Fixes, if it is {line(diagnosis.code)}", unfold),)
        return row

    def _choose(self, diagnosis: Diagnosis, fix: Fix) -> None:
        if self._must_wait():
            return
        plan = self.session.plan(diagnosis, fix)
        self._text.begin(plan)
        if fix.applicability is Applicability.SAFE and not asks_first(plan):
            self._run(plan)
            return
        apply = self._button("Apply", partial(self._run, plan), kind="primary")
        cancel = self._button("Cancel", partial(self._say, "Nothing was changed."))
        shown = preview(plan.preview())
        self._fill(self._stage, [self._html(shown + sources(plan, folded=True)), self._row([apply, cancel])])

    def _run(self, plan: Plan) -> None:
        """Carry a plan out: on this thread, where the kernel's Stop reaches the person's code, or beside it."""
        self._start(plan, partial(self.session.apply, plan), threaded=plan.threaded)

    def _check(self, plan: Plan) -> None:
        """Verify on this thread what a plan did beside it."""
        self._start(plan, lambda progress: ("", plan.verify(progress)), threaded=False)

    def _start(self, plan: Plan, work: Callable[[Progress], _Outcome], *, threaded: bool) -> None:
        if self._must_wait() or not _running.acquire(blocking=False):
            return
        self._works = True
        try:
            told = self._html("")
            progress = Progress(_Teller(told, "" if threaded else "The kernel's Stop button cancels it."))
            captured = widgets.Output(layout=self._layout)
            cancel = [self._row([self._button("Cancel", progress.cancel)])] if threaded else []
            self._fill(self._stage, [told, *cancel, captured])
            self._able(False)
        except BaseException:
            self._works = False
            _running.release()
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
                outcome = _carry_out(work)
        finally:
            self._works = False
            _running.release()
            self._able(True)
            self._end(plan, outcome, captured)

    def _end(self, plan: Plan, outcome: _Outcome | str, captured: Any) -> None:
        buttons = []
        if isinstance(outcome, str):
            shown = said(outcome)
        else:
            done, verification = outcome
            shown = ended(done, verification)
            stale = getattr(plan, "stale", ())
            if verification.status is Status.PENDING and plan.threaded and plan.reruns and not stale:
                buttons.append(self._button("Check it now", partial(self._check, plan)))
        if plan.undoable and (outcome == STOPPED or not isinstance(outcome, str)):
            buttons.append(self._button("Undo", partial(self._undo, plan)))
        elsewhere = scratch_cell() if not isinstance(outcome, str) else None
        if elsewhere is not None and (new := "\n\n".join(getattr(plan, "sources", ()))):
            buttons.append(self._button("Open in a scratch cell", partial(elsewhere, new)))
        text = self._html("" if isinstance(outcome, str) else sources(plan, folded=False))
        row = self._row(buttons)
        self._fill(self._stage, [self._html(shown), row, text, captured])
        if not isinstance(outcome, str):
            self._text.write(plan, outcome[1], text, partial(self._offer_run, plan, row))

    def _offer_run(self, plan: Plan, row: Any) -> None:
        """The cells hold the fix: a button runs them in the notebook, so that their output there is the new one."""
        if cells := to_run(plan):
            run = partial(self._run_in_notebook, plan)
            button = self._button(f"Run {cells} in the notebook", run, classes=("tfdiag-button", RUN))
            row.children = (*row.children, button)

    def _run_in_notebook(self, plan: Plan) -> None:
        if self._must_wait():
            return
        self.session.expect(plan)
        self._text.run(plan, lambda sentence: self._fill(self._aside, [self._html(said(sentence))]))

    def _undo(self, plan: Plan) -> None:
        if self._must_wait():
            return
        captured = widgets.Output(layout=self._layout)
        self._fill(self._stage, [self._html(said("Undoing …")), captured])
        told = STOPPED
        with captured:  # cells may run again as they stand; what leaves the block would be swallowed
            told = _carry_out(plan.undo, "Undo")
        self._text.write_back(told, self._say)

    def _must_wait(self) -> bool:
        """Whether a fix runs; this panel's own goes on showing its progress."""
        if _running.locked() and not self._works:
            self._say("Another fix is running: wait for it to end.")
        return _running.locked()

    def _able(self, able: bool) -> None:
        for button in self._fixes.values():
            button.disabled = not able

    # the rule's page and the report

    def _explain(self, code: str) -> None:
        if self._unfolds(code):
            page = self.session.page(code)
            data = {"text/markdown": page, "text/plain": page}
            shown = {"output_type": "display_data", "data": data, "metadata": {}}
            self._fill(self._aside, [widgets.Output(outputs=(shown,), layout=self._layout)])

    def _report(self) -> None:
        if self._unfolds("report"):
            self._fill(self._aside, [self._html(copyable(self.session.report(), "The report, as Markdown:"))])

    def _reject(self, code: str) -> None:
        if self._unfolds("wrong"):
            told = said(silenced(code)) + copyable(self.session.reject(code), SEND)
            self._fill(self._aside, [self._html(told)])

    def _unfolds(self, what: str) -> bool:
        """Whether a second part is to be opened; the second click on its button closes it."""
        self._fill(self._aside, [])
        self._aside_of = "" if self._aside_of == what else what
        return bool(self._aside_of)

    # widgets

    def _say(self, sentence: str) -> None:
        self._fill(self._stage, [self._html(said(sentence))])

    def _html(self, markup: str) -> Any:
        return widgets.HTML(wrapped(markup), layout=self._layout)

    def _box(self, children: Sequence[Any]) -> Any:
        return widgets.VBox(children, layout=self._layout)

    def _row(self, children: Sequence[Any]) -> Any:
        return widgets.HBox(children, layout=self._layout, _dom_classes=("tfdiag-row",))

    def _tool(self, label: str, action: Callable[[], None]) -> Any:
        return self._button(label, action, classes=("tfdiag-button", "tfdiag-tool"))

    def _button(
        self,
        label: str,
        action: Callable[[], None],
        *,
        kind: str = "",
        tooltip: str = "",
        classes: tuple[str, ...] = ("tfdiag-button",),
    ) -> Any:
        button = widgets.Button(
            description=label,
            tooltip=tooltip or label,
            button_style=kind,
            layout=self._layout,
            style=self._style,
            _dom_classes=classes,
        )
        if hasattr(button.comm, "_reply_subshell_for"):
            # From 7.4 on ipykernel delivers a click to the thread whose message opened the widget. JupyterLab's clicks come on
            # a subshell, and so would those on all buttons made by a click; the person's code belongs on the main thread.
            button.comm._reply_subshell_for = _main_shell
        self._actions[button.model_id] = action
        button.on_click(self._clicked)
        return button

    def _clicked(self, button: Any) -> None:
        """Do what a button stands for; whatever goes wrong ends as a sentence in the panel."""
        action = self._actions.get(button.model_id)
        if action is None:
            return
        # ipykernel 7.0 to 7.3 lets JupyterLab's clicks come on another thread, beside a cell that runs and out of Stop's reach
        cancels = getattr(action, "__func__", None) is Progress.cancel
        if cancels or not self.session.on_main_thread(partial(self._do, action)):
            self._do(action)

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except KeyboardInterrupt:
            self._say(STOPPED)
        except TfdiagError as error:
            self._say(str(error))
        except BaseException as error:  # SystemExit of a plan, say
            log.exception("A button of the panel failed.")
            self._say(f"That failed ({type(error).__name__}); `%tfdiag report` has the details.")

    def _fill(self, box: Any, children: Sequence[Any]) -> None:
        """Give a box other children and close those that it had."""
        before = [child for child in box.children if child not in children]
        box.children = tuple(children)
        for child in before:
            self._dispose(child)

    def _dispose(self, widget: Any) -> None:
        for child in getattr(widget, "children", ()):
            self._dispose(child)
        self._actions.pop(widget.model_id, None)
        self._fixes.pop(widget.model_id, None)
        widget.close()


class _Teller:
    """Shows progress: ``PROGRESS_AT_ONCE`` messages, and one more for every ``PROGRESS_EVERY`` seconds that have gone by."""

    def __init__(self, told: Any, hint: str) -> None:
        self._told = told
        self._hint = hint
        self._left = float(PROGRESS_AT_ONCE)
        self._last = time.monotonic()

    def __call__(self, text: str, fraction: float | None) -> None:
        before, self._last = self._last, time.monotonic()
        self._left = min(PROGRESS_AT_ONCE, self._left + (self._last - before) / PROGRESS_EVERY)
        if self._left < 1:
            return
        self._left -= 1
        bar = "" if fraction is None else f' <progress max="1" value="{fraction:.2f}"></progress>'
        told = f'<p role="status">{inline(line(text))}{bar}</p><p class="tfdiag-quiet">{self._hint}</p>'
        self._told.value = wrapped(told)


def _main_shell(data: object, default: str | None) -> None:
    """The identity of the main thread's shell among ipykernel's subshells."""


def _executable(diagnosis: Diagnosis) -> list[Fix]:
    """The fixes that a button can carry out; the others stand as text in the diagnosis."""
    return [fix for fix in diagnosis.fixes if fix.applicability is not Applicability.DISPLAY_ONLY]


def _carry_out(work: Callable[[], _Result], what: str = "The fix") -> _Result | str:
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
