"""Putting things before the person: a MIME bundle in a kernel, plain or coloured text in a terminal."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdiag_ipython.diagnosis import Diagnosis

NARROWEST, WIDEST = 40, 100
SILENT = 1.0
"""Seconds before it is shown how far something is."""
COLUMN = 60
"""Characters to which a column is padded at most."""


def in_kernel(shell: Any) -> bool:
    """Whether output goes to a front end over the Jupyter protocol."""
    return getattr(shell, "kernel", None) is not None


def has_widgets(shell: Any) -> bool:
    """Whether a panel can be shown; ipywidgets is not imported to find out."""
    return in_kernel(shell) and importlib.util.find_spec("ipywidgets") is not None


def show_diagnoses(
    shell: Any, diagnoses: Sequence[Diagnosis], *, brief: bool = False, name: str = "", again: bool = False
) -> None:
    """The diagnoses as durable output; ``brief`` leaves it at the answer.

    ``again`` replaces the output of this ``name``, wherever in the notebook it stands.
    """
    from tfdiag_ipython.render.text import render_text

    found = list(diagnoses)
    if in_kernel(shell):
        from tfdiag_ipython.render.html import render_html

        shown = {"text/html": render_html(found, brief=brief), "text/plain": render_text(found, brief=brief)}
        publish(shell, shown, name=name, again=again)
        return
    print()  # the traceback ends above it
    print(render_text(found, width=_width(), color=_color(shell), brief=brief))


def show_line(shell: Any, text: str) -> None:
    """One quiet line, or a few."""
    if in_kernel(shell):
        publish(shell, {"text/plain": text})
    else:
        print(text)


class ProgressLine:
    """How far something is: one line that is written over, as progress bars do it in notebooks and terminals alike.

    What counts how far it is, is silent for the first second: most of it has ended then.
    """

    def __init__(self) -> None:
        self._width = 0
        self._since = time.perf_counter()

    def __call__(self, text: str, fraction: float | None = None) -> None:
        if fraction is not None:
            if time.perf_counter() - self._since < SILENT:
                return
            text = f"{text} ({fraction:.0%})"
        print(f"\r{text:<{self._width}}", end="", flush=True)
        self._width = len(text)

    def end(self) -> None:
        """Take the line away."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", flush=True)


def show_markdown(shell: Any, text: str) -> None:
    if in_kernel(shell):
        publish(shell, {"text/markdown": text, "text/plain": text})
    else:
        print(text)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows as aligned columns, the last one as long as it likes; a sentence in another one pushes only its own row."""
    kept = [tuple(row) for row in rows]
    if not kept:
        return ""
    wide = [min(max(len(row[column]) for row in kept), COLUMN) for column in range(len(kept[0]) - 1)]
    return "\n".join(
        "  ".join([*(f"{cell:{size}}" for cell, size in zip(row, wide, strict=False)), row[-1]]).rstrip()
        for row in kept
    )


def publish(shell: Any, data: dict[str, Any], *, name: str = "", again: bool = False) -> None:
    """Display a MIME bundle; ``again`` replaces the one that was displayed under this ``name``."""
    shell.display_pub.publish(data=data, metadata={}, transient={"display_id": name} if name else {}, update=again)


def _width() -> int:
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((80, 24)).columns))


def _color(shell: Any) -> bool:
    plain = os.environ.get("NO_COLOR") or str(getattr(shell, "colors", "")).lower() == "nocolor"
    return not plain and sys.stdout.isatty()
