"""What the panel says while a fix is previewed, runs and has ended, as HTML. Whatever a program or file wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tfdiag_ipython.diagnosis import Verification
from tfdiag_ipython.fix import Plan, Preview
from tfdiag_ipython.fixes.cells import CellEdit
from tfdiag_ipython.render.html import inline
from tfdiag_ipython.render.text import OUTCOMES, TEXT_LIMIT, clean, line

SHOWN_TEXT_LIMIT = 20_000
"""Characters of a preview, a new source or a report that are sent to the front end."""
KEEP = "The text of {cell} is as it was. To keep the fix, copy this into it:"
AS_IT_WAS = "Your cells' text was not changed."
HEADINGS = {
    "diff": "This is what would change:",
    "command": "This is what would be done:",
    "bytes": "This is what would be freed:",
    "text": "This is what would be done:",
}


def wrapped(markup: str) -> str:
    """What a widget of the panel shows, in the panel's own style."""
    return f'<div class="tfdiag-say" dir="auto">{markup}</div>'


def said(sentence: str) -> str:
    return f'<p role="status" dir="auto">{inline(line(sentence, TEXT_LIMIT))}</p>'


def ended(done: str, verification: Verification) -> str:
    mark, word = OUTCOMES[verification.status]
    detail = f": {inline(line(verification.detail, TEXT_LIMIT))}" if verification.detail else ""
    told = f'<p role="status" class="tfdiag-outcome">{mark} {word}{detail}</p>'
    return told + (f"<p>{inline(line(done, TEXT_LIMIT))}</p>" if done else "")


def preview(preview: Preview, heading: str = "", *, noted: bool = True) -> str:
    """What a plan would do, before it does it; ``noted``: and what follows from it."""
    text = clean(preview.text, SHOWN_TEXT_LIMIT)
    body = "".join(map(_diff_line, text.splitlines())) if preview.kind == "diff" else html.escape(text)
    note = f'<p class="tfdiag-quiet">{inline(line(preview.note, TEXT_LIMIT))}</p>' if preview.note and noted else ""
    return f'<p>{heading or HEADINGS[preview.kind]}</p><pre dir="ltr">{body}</pre>{note}'


def _diff_line(text: str) -> str:
    if text.startswith("@@"):  # places in a text that is shown in full or nearly so
        return ""
    if text.startswith(("+++", "---")):
        return f'<span class="tfdiag-quiet">{html.escape(text)}</span>\n'
    tag = {"+": "ins", "-": "del"}.get(text[:1], "span")
    return f"<{tag}>{html.escape(text)}</{tag}>" + ("\n" if tag == "span" else "")


def written(cells: str) -> str:
    """The notebook's own text holds the fix."""
    return (
        f'<p role="status" class="tfdiag-quiet">The text of {inline(cells)} now holds the fix; Undo takes it back.</p>'
    )


def refused(refusal: str, plan: Plan) -> str:
    """The fix was not written into the cells: why, and what it is, to be made by hand."""
    return said(refusal) + preview(plan.preview(), "This is the fix:", noted=False) + sources(plan, folded=True)


def sources(plan: Plan, *, folded: bool) -> str:
    """The new source of each cell that a plan edits, for copying."""
    sources: tuple[str, ...] = getattr(plan, "sources", ())
    if not sources:
        return ""
    edits: Sequence[CellEdit] = getattr(plan, "edits", ())
    labels = [edit.cell.label for edit in edits] if len(edits) == len(sources) > 1 else ["your cell"] * len(sources)
    if folded:
        fields = "".join(map(copyable, sources, (f"For {label}:" if edits[1:] else "" for label in labels)))
        return f"<details><summary class='tfdiag-quiet'>The new source, to copy</summary>{fields}</details>"
    return "".join(copyable(source, KEEP.format(cell=label)) for source, label in zip(sources, labels, strict=True))


def copyable(text: str, heading: str) -> str:
    """Read-only text that one click selects, to be copied. Without the last attribute JupyterLab would take Ctrl+C for its own command."""
    text = clean(text, SHOWN_TEXT_LIMIT)
    head = f'<p class="tfdiag-quiet">{heading}</p>' if heading else ""
    field = f'readonly dir="ltr" rows="{min(text.count(chr(10)) + 1, 12)}" aria-label="{heading or "To copy"}"'
    reach = 'onfocus="this.select()" data-lm-suppress-shortcuts="true"'
    return f"{head}<textarea {field} {reach}>{html.escape(text)}</textarea>"
