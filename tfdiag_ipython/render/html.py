"""Diagnoses as durable HTML: escaped, no script, nothing fetched; readable in light and dark themes and without the style."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Diagnosis
from tfdiag_ipython.render.text import (
    EVIDENCE_SHOWN,
    MARKS,
    REST,
    SAFETY,
    SHOWN,
    TEXT_LIMIT,
    TITLE_LIMIT,
    bar,
    clean,
    line,
    render_text,
)

if TYPE_CHECKING:
    from jinja2 import Template

_CODE = re.compile(r"`([^`\n]+)`")
_LONG = re.compile(r"[^\s`]{20,}")
_SEAM = re.compile(r"(?<=[._/\\(=,-])(?=[A-Za-z])|(?<=[a-z0-9])(?=[A-Z])")
"""Where a long name, path or call that is wider than a narrow panel may go on in the next line: between its parts."""
_MARKS = {"\x00": "<wbr>", "\x01": '<span class="tfdiag-long">', "\x02": "</span>"}
"""What stands for markup while the text is escaped: none of these is left in a text that is shown."""


def render_html(diagnoses: Sequence[Diagnosis], *, brief: bool = False) -> str:
    """The diagnoses, best first, as one HTML fragment; an empty string when there are none. ``brief`` is the answer alone.

    Where Jinja2 is missing (a broken installation), the plain text stands in a ``<pre>``.
    """
    if not diagnoses:
        return ""
    try:
        template = _template()
    except ImportError:
        return f"<pre>{html.escape(render_text(diagnoses, brief=brief))}</pre>"
    first, *others = diagnoses[:SHOWN]
    return template.render(first=first, others=others, rest=REST if brief else "")


def render_line(text: str) -> str:
    """One line above a widget's view: with it stands the style that hides what is left of the view in a saved notebook."""
    hides = "".join(line for line in resource("style.css").splitlines() if line.startswith(".jp-OutputArea-child"))
    return f'<div class="tfdiag"><style>{hides}</style>{html.escape(text)}</div>'


def inline(text: str) -> str:
    """Escaped text in which ```code``` is set as code, and long words may break between their parts."""
    markup = _CODE.sub(r"<code>\1</code>", html.escape(_LONG.sub(_seamed, clean(text, len(text)))))
    for mark, tag in _MARKS.items():
        markup = markup.replace(mark, tag)
    return markup


def _seamed(word: re.Match[str]) -> str:
    seamed = _SEAM.sub("\x00", word[0])
    return f"\x01{seamed}\x02" if "\x00" in seamed else seamed


def resource(name: str) -> str:
    """The text of one of the views' style or template files."""
    return (files("tfdiag_ipython.render") / "templates" / name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    from jinja2 import Environment
    from markupsafe import Markup

    environment = Environment(autoescape=True)
    environment.filters.update(
        line=line,
        bar=bar,
        title_line=lambda text: line(text, TITLE_LIMIT),
        paragraph=lambda text: line(text, TEXT_LIMIT),
        inline=lambda text: Markup(inline(text)),
        web=lambda url: url if url.startswith(("https://", "http://")) else "#",
    )
    environment.globals.update(marks=MARKS, safety=SAFETY, rows=EVIDENCE_SHOWN, style=Markup(resource("style.css")))
    return environment.from_string(resource("diagnoses.html"))
