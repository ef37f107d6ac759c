"""What every view of tfdiag's in a page is made of: widgets that share their layout, and buttons whose faults end as a sentence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets

from tfdiag_ipython.errors import TfdiagError
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.render.cell_link import OWNER
from tfdiag_ipython.render.html import inline, resource
from tfdiag_ipython.render.panel_markup import said, wrapped
from tfdiag_ipython.render.text import line

PROGRESS_EVERY = 0.5
PROGRESS_AT_ONCE = 20
"""Seconds between two progress messages once so many were shown: pip prints hundreds of lines, a run of cells names each in turn."""
STOPPED = "Cancelled before its end."
log = logging.getLogger("tfdiag")


class View:
    """A tree of widgets under ``root``; what it says stands on its ``_stage``."""

    def __init__(self, on_main_thread: Callable[[Callable[[], None]], bool]) -> None:
        self._on_main_thread = on_main_thread
        self._layout = widgets.Layout()
        self._style = widgets.ButtonStyle()
        self._text_style: Any = None  # the first text's own: its class differs between ipywidgets 7 and 8
        self._actions: dict[str, Callable[[], None]] = {}
        self._pressed = ""  # the description of the button that was clicked last, by which the page knows where
        self._stage = self._box([])

    def _stand(self, rows: Sequence[Any]) -> None:
        """These are what the view consists of."""
        self.root = self._box([self._html(f"<style>{resource('panel.css')}</style>"), *rows])
        self.root._dom_classes = ("tfdiag-panel", OWNER)

    @property
    def bundle(self) -> dict[str, Any]:
        """What is displayed: the view, and nothing where there are no widgets, for the diagnosis stands above it."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.root.model_id}
        return {"application/vnd.jupyter.widget-view+json": view, "text/plain": "", "text/html": ""}

    def close(self) -> None:
        """Close every widget; the durable output above them stays."""
        self._dispose(self.root)
        self._layout.close()
        self._style.close()
        if self._text_style is not None:
            self._text_style.close()

    def _say(self, sentence: str) -> None:
        self._fill(self._stage, [self._html(said(sentence))])

    def _html(self, markup: str) -> Any:
        shared = {} if self._text_style is None else {"style": self._text_style}
        text = widgets.HTML(wrapped(markup), layout=self._layout, **shared)
        self._text_style = text.style
        return text

    def _output(self, outputs: Sequence[dict[str, Any]] = ()) -> Any:
        return widgets.Output(outputs=tuple(outputs), layout=self._layout)

    def _box(self, children: Sequence[Any]) -> Any:
        return widgets.VBox(children, layout=self._layout)

    def _box_below(self, above: Any) -> Any:
        """A box that is put into the view when something first stands in it: each widget costs messages to open and to close."""
        box, standing = self._box([]), list(self.root.children)
        standing.insert(standing.index(above) + 1, box)
        self.root.children = tuple(standing)
        return box

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
        self._pressed = button.description
        # ipykernel 7.0 to 7.3 lets JupyterLab's clicks come on another thread, beside a cell that runs and out of Stop's reach
        cancels = getattr(action, "__func__", None) is Progress.cancel
        if cancels or not self._on_main_thread(partial(self._do, action)):
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
        widget.close()


class Teller:
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
