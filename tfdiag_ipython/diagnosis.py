"""A rule's finding as plain data: what is wrong in this program, how sure that is, and what can be done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

SCHEMA = 1
"""Number of the JSON layout that ``Diagnosis.to_dict`` writes; it grows when a reader would have to change."""

CODE = re.compile(r"[A-Z]{3,}\d{3,}")
"""A rule's code: the letters of its domain or pack, and its number there."""


class Certainty(Enum):
    """How sure a diagnosis is; the order of declaration is the order of trust."""

    CONFIRMED = "confirmed"  # evidence shows this very cause
    LIKELY = "likely"  # the text can mean little else
    POSSIBLE = "possible"  # nothing separates it from its rivals

    @property
    def rank(self) -> int:
        return list(Certainty).index(self)


class Applicability(Enum):
    """What a fix does to the program (ruff's scale)."""

    SAFE = "safe"  # the program means the same afterwards
    UNSAFE = "unsafe"  # it means something else; a preview and a second click come first
    DISPLAY_ONLY = "display-only"  # only shown: tfdiag cannot carry it out here


class Status(Enum):
    """What happened after a fix was carried out."""

    VERIFIED = "verified"
    STILL_FAILING = "still failing"
    OTHER_FAILURE = "other failure"
    PENDING = "pending"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Observation:
    """One thing that a probe saw: what, its value in words, and where it was seen (``frame `forward`, cell 3``).

    ``share``, from 0 to 1, is the value's part of a whole (or of the largest), which the views draw as a bar beside it.
    """

    what: str
    value: str
    source: str = ""
    share: float | None = None

    def to_dict(self) -> dict[str, Any]:
        drawn = {} if self.share is None else {"share": round(self.share, 4)}
        return {"what": self.what, "value": self.value, "source": self.source, **drawn}


@dataclass(frozen=True)
class Link:
    """A page that says more; it is shown, never fetched."""

    title: str
    url: str

    def to_dict(self) -> dict[str, str]:
        return {"title": self.title, "url": self.url}


@dataclass(frozen=True)
class Fix:
    """A proposed remedy. ``parameters`` are plain data from which the rule's ``plan`` works it out for the scene."""

    id: str
    label: str
    applicability: Applicability
    explanation: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "applicability": self.applicability.value,
            "explanation": self.explanation,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True)
class Verification:
    """The outcome of a fix: its status, one sentence with the numbers that show it, and what stayed behind."""

    status: Status
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"status": self.status.value, "detail": self.detail}


@dataclass(frozen=True)
class Diagnosis:
    """What a rule found. The title is the answer, in one line."""

    code: str
    name: str
    title: str
    certainty: Certainty
    what: str = ""
    why: str = ""
    evidence: tuple[Observation, ...] = ()
    unseen: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    links: tuple[Link, ...] = ()
    cell: str = ""

    def fix(self, identity: str) -> Fix:
        """The fix with this id; ``KeyError`` names the ids there are."""
        for fix in self.fixes:
            if fix.id == identity:
                return fix
        raise KeyError(f"{self.code} offers no fix {identity!r}, only {[fix.id for fix in self.fixes]}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: strings, numbers, lists and dictionaries only."""
        return {
            "schema": SCHEMA,
            "code": self.code,
            "name": self.name,
            "title": self.title,
            "certainty": self.certainty.value,
            "what": self.what,
            "why": self.why,
            "evidence": [seen.to_dict() for seen in self.evidence],
            "unseen": list(self.unseen),
            "fixes": [fix.to_dict() for fix in self.fixes],
            "links": [link.to_dict() for link in self.links],
            "cell": self.cell,
        }


_PARTS: Mapping[str, type] = {"evidence": Observation, "unseen": str, "fixes": Fix, "links": Link}
_TEXTS: Mapping[type, tuple[str, ...]] = {
    Diagnosis: ("code", "name", "title", "what", "why", "cell"),
    Observation: ("what", "value", "source"),
    Fix: ("id", "label", "explanation"),
    Link: ("title", "url"),
}


def flaw(found: object) -> str:
    """What is wrong with what a rule returned, in a few words; empty where every view can show it."""
    if not isinstance(found, Diagnosis):
        return f"{type(found).__name__} instead of a diagnosis"
    for name, kind in _PARTS.items():
        items = getattr(found, name)
        if not isinstance(items, Sequence) or not all(isinstance(item, kind) for item in items):
            return f"a diagnosis whose {name} are not all of the type {kind.__name__}"
    for part in (found, *found.evidence, *found.fixes, *found.links):
        wrong = next((name for name in _TEXTS[type(part)] if not isinstance(getattr(part, name), str)), None)
        if wrong:
            return f"a {type(part).__name__} whose {wrong} is no text"
    if not isinstance(found.certainty, Certainty):
        return f"a diagnosis with the certainty {found.certainty!r:.80}"
    if not found.title.strip():
        return "a diagnosis without a title"
    if not all(
        isinstance(fix.applicability, Applicability) and isinstance(fix.parameters, Mapping) for fix in found.fixes
    ):
        return "a diagnosis with a fix of no applicability or no parameters"
    if not all(seen.share is None or isinstance(seen.share, (int, float)) for seen in found.evidence):
        return "an Observation whose share is no number"
    return ""
