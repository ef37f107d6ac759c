"""Diagnoses as plain text for terminals, pipes and the ``text/plain`` of a notebook: the answer is the first line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Observation, Status, Verification

SHOWN = 3
"""Diagnoses shown at most; the first one in full, the others in one line each."""
EVIDENCE_SHOWN = 12
TITLE_LIMIT, TEXT_LIMIT, VALUE_LIMIT = 300, 1_500, 300
"""Characters shown of a title, a paragraph, an observed value: a diagnosis is a few kilobytes, whatever the program holds."""
BAR = 10
"""Characters of a bar."""

MARKS = {Certainty.CONFIRMED: "●", Certainty.LIKELY: "◐", Certainty.POSSIBLE: "○"}
SAFETY = {
    Applicability.SAFE: "safe: your program means the same afterwards",
    Applicability.UNSAFE: "unsafe: your program means something else afterwards",
    Applicability.DISPLAY_ONLY: "by hand",
}
REST = "`%tfdiag` shows the evidence and the fixes."
OUTCOMES = {
    Status.VERIFIED: ("✔", "Verified"),
    Status.STILL_FAILING: ("✘", "Still failing"),
    Status.OTHER_FAILURE: ("✘", "Another failure"),
    Status.PENDING: ("…", "Pending"),
    Status.NOT_CHECKED: ("○", "Not checked"),
}
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Controls of terminals and of text direction: text from messages and files must not drive what shows it."""
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """Text of unknown origin as it may be shown: no control characters, at most ``limit`` characters."""
    kept = _UNSHOWN.sub("", _ANSI.sub("", text[: 4 * limit])).strip()
    return kept if len(kept) <= limit and len(text) <= 4 * limit else f"{kept[: limit - 1].rstrip()}…"


def line(text: str, limit: int = VALUE_LIMIT) -> str:
    """The same on one line."""
    return clean(" ".join(clean(text, 4 * limit).split()), limit)


def bar(share: float) -> str:
    """A share of a whole as ten characters, which need neither colour nor style: ``███░░░░░░░``."""
    share = min(max(share, 0.0), 1.0)
    full = round(share * BAR)
    drawn = "█" * full if full or not share else "▒"
    return drawn.ljust(BAR, "░")


def with_bar(seen: Observation) -> str:
    """An observed value on one line, behind its bar where it has one."""
    return line(seen.value) if seen.share is None else f"{bar(seen.share)} {line(seen.value)}"


def silenced(code: str) -> str:
    """What is said when a person has called a rule's diagnosis wrong."""
    return f"{code} stays silent for the rest of this session; `%tfdiag config ignored=none` lets it speak again."


def render_text(diagnoses: Sequence[Diagnosis], *, width: int = 80, color: bool = False, brief: bool = False) -> str:
    """The diagnoses, best first, wrapped at ``width``; an empty string when there are none. ``brief`` is the answer alone."""
    if not diagnoses:
        return ""
    if brief:
        return "\n".join([*_head(diagnoses[0], width, color), _styled(_fill(REST, width, "", "  "), _DIM, color)])
    first, *others = diagnoses[:SHOWN]
    blocks = ["\n".join(_head(first, width, color)), *_body(first, width, color)]
    if others:
        rows = [_other(one, width) for one in others]
        blocks.append("\n".join([_styled("It could also be", _DIM, color), *rows]))
    return "\n\n".join(blocks)


def render_verification(done: str, verification: Verification, *, width: int = 80, color: bool = False) -> str:
    """How a fix ended: the outcome in words first, then what was done."""
    mark, word = OUTCOMES[verification.status]
    told = f"{mark} {word}: {line(verification.detail, TEXT_LIMIT)}" if verification.detail else f"{mark} {word}."
    rows = [_styled(_fill(told, width, "", "  "), _BOLD, color)]
    if done:
        rows.append(_fill(line(done, TEXT_LIMIT), width, "  ", "  "))
    return "\n".join(rows)


def _head(diagnosis: Diagnosis, width: int, color: bool) -> list[str]:
    answer = _fill(line(diagnosis.title, TITLE_LIMIT), width, "", "")
    label = f"{MARKS[diagnosis.certainty]} {diagnosis.certainty.value} · {line(diagnosis.code)} {line(diagnosis.name)}"
    return [_styled(answer, _BOLD, color), _styled(_fill(label, width, "", "  "), _DIM, color)]


def _body(diagnosis: Diagnosis, width: int, color: bool) -> list[str]:
    blocks = [_fill(line(text, TEXT_LIMIT), width, "  ", "  ") for text in (diagnosis.what, diagnosis.why) if text]
    if diagnosis.evidence or diagnosis.unseen:
        rows = [_styled("Evidence", _DIM, color), *_table(diagnosis.evidence[:EVIDENCE_SHOWN], width)]
        if len(diagnosis.evidence) > EVIDENCE_SHOWN:
            rows.append(f"  … and {len(diagnosis.evidence) - EVIDENCE_SHOWN} more")
        rows += [_fill(f"not looked at: {line(reason)}", width, "  ", "    ") for reason in diagnosis.unseen]
        blocks.append("\n".join(rows))
    if diagnosis.fixes:
        blocks.append("\n".join([_styled("Fixes", _DIM, color), *(_fix(fix, width) for fix in diagnosis.fixes)]))
    if diagnosis.links:
        links = [f"  {line(link.title)}: {line(link.url)}" for link in diagnosis.links]
        blocks.append("\n".join([_styled("More", _DIM, color), *links]))
    return blocks


def _table(evidence: Sequence[Observation], width: int) -> list[str]:
    """What | its value (where it was seen), the first column as wide as its entries need, a third of the line at most."""
    names = [line(seen.what, 120) for seen in evidence]
    column = min(max(map(len, names), default=0), width // 3)
    rows = []
    for name, seen in zip(names, evidence, strict=True):
        value = with_bar(seen) + (f"  ({line(seen.source)})" if seen.source else "")
        lead = f"  {name:{column}}  "
        if len(name) > column:
            rows.append(_fill(name, width, "  ", "  "))
            lead = " " * (column + 4)
        rows.append(_fill(value, width, lead, " " * (column + 4)))
    return rows


def _fix(fix: Fix, width: int) -> str:
    label, reason = line(fix.label).rstrip("."), line(fix.explanation, TEXT_LIMIT)
    told = f"[{fix.applicability.value}] {label}" + (f". {reason}" if reason else "")
    return _fill(told, width, "  ", "    ")


def _other(diagnosis: Diagnosis, width: int) -> str:
    told = f"{MARKS[diagnosis.certainty]} {diagnosis.certainty.value} · {line(diagnosis.code)}: {line(diagnosis.title)}"
    return textwrap.shorten(told, max(width - 2, 20), placeholder=" …").join(("  ", ""))


def _fill(text: str, width: int, first: str, rest: str) -> str:
    """Wrapped text; what has no space in it (a path, a hash) is cut at the edge."""
    width = max(width, len(rest) + 20)
    filled = textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return filled or first.rstrip()


def _styled(text: str, style: str, color: bool) -> str:
    """Each line for itself: pagers and multiplexers start every line without a style."""
    return "\n".join(f"{style}{row}{_PLAIN}" for row in text.splitlines()) if color else text
