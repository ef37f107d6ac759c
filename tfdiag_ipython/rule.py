"""The contract of a rule: one fault that tfdiag knows, in one file, with its page, its cases and its fixes."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation, Status
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure, Kind, Raised
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Probe, Scene

SECTIONS = (
    "What it means",
    "Why it happens",
    "How tfdiag confirms it",
    "Fixes and their safety",
    "Example",
    "References",
)
"""Headings that every rule's docstring has, in this order: it is the rule's page."""


@dataclass(frozen=True)
class Hit:
    """Where a rule's signature fits: the exception of the chain (0 is the one that reached the top) and the named groups.

    ``weight`` is the length of the literal text that the signature found: the more it asks for, the more it says.
    """

    raised: Raised
    position: int
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    weight: int = 0

    def __getitem__(self, group: str) -> str:
        return self.groups.get(group, "")


@dataclass(frozen=True)
class Offer:
    """A fix that a rule may propose: its safety at best, and whether every live diagnosis has it."""

    id: str
    applicability: Applicability
    always: bool = False


@dataclass(frozen=True)
class Match:
    """Stored text, or a failure, that this rule must put first, given the evidence (facts by probe name)."""

    text: str = ""
    failure: Failure | None = None
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    certainty: Certainty | None = None
    title: str = ""  # a regular expression to be found in the title
    fixes: tuple[str, ...] = ()  # ids that must be offered


@dataclass(frozen=True)
class NoMatch:
    """Text that looks alike and is something else: the code of the rule that does know it, or ``None`` for silence."""

    text: str = ""
    code: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Try:
    """A fix of a reproduced failure to be carried out, and how it must end."""

    fix: str
    status: Status = Status.VERIFIED


@dataclass(frozen=True)
class Reproduce:
    """Cells that really raise: all but the last must succeed, the last one fails.

    Where nothing is raised, ``probe`` is what the person asks after the last cell (``"padding model batch"``), or ``finding`` what a
    watch, which needs a shell, finds in it.
    Each entry of ``fixes`` is carried out in a fresh run of the cells; ``bare`` says that no fix may have a button here. ``needs`` names modules without which it is skipped;
    a requirement such as ``"transformers<5"`` also skips other versions, ``"without tensorflow"`` where that can be imported. ``environment`` is set (``None``: unset) in a child
    process, in which ``isolated`` cases run.
    """

    cells: tuple[str, ...]
    probe: str = ""
    title: str = ""
    certainty: Certainty | None = None
    fixes: tuple[Try, ...] = ()
    bare: bool = False
    finding: Failure | None = None
    needs: tuple[str, ...] = ("torch", "transformers")
    environment: Mapping[str, str | None] = field(default_factory=dict)
    isolated: bool = False
    gpu: bool = False  # needs a CUDA device


Case = Match | NoMatch | Reproduce


class Rule(ABC):
    """One fault. ``raised`` are class names (qualified or not), matched along the MRO; empty means any exception.

    ``message`` is searched in each exception's message; its literal parts feed the index. ``diagnose`` is pure: the same values
    in give the same diagnosis out, and ``None`` where the evidence says that it is not this fault.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]] = ("exception",)
    raised: ClassVar[tuple[str, ...]] = ()
    message: ClassVar[re.Pattern[str]]
    specific: ClassVar[bool] = False  # asks for more than the message (a frame, a cause): goes before rules that do not
    needs: ClassVar[tuple[type[Probe], ...]] = ()
    fixes: ClassVar[tuple[Offer, ...]] = ()
    links: ClassVar[tuple[Link, ...]] = ()
    CASES: ClassVar[tuple[Case, ...]] = ()

    @abstractmethod
    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        """Say what is wrong, from values alone. ``evidence`` has an entry for every probe in ``needs``."""

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        """Work a fix out for this scene; raises ``PlanError`` where that is impossible."""
        raise PlanError(f"{self.code} has nothing to carry out for {fix.label!r}: do what it says by hand.")

    def found(
        self,
        title: str,
        certainty: Certainty,
        *,
        what: str = "",
        why: str = "",
        evidence: tuple[Observation, ...] = (),
        fixes: tuple[Fix, ...] = (),
        links: tuple[Link, ...] | None = None,
    ) -> Diagnosis:
        """A diagnosis of this rule."""
        return Diagnosis(
            code=self.code,
            name=self.name,
            title=title,
            certainty=certainty,
            what=what,
            why=why,
            evidence=evidence,
            fixes=fixes,
            links=self.links if links is None else links,
        )

    def offer(
        self, identity: str, label: str, explanation: str = "", *, display: bool = False, **parameters: Any
    ) -> Fix:
        """The fix with this id from ``fixes``; ``display`` lowers it to display-only."""
        declared = next(offer for offer in self.fixes if offer.id == identity)
        applicability = Applicability.DISPLAY_ONLY if display else declared.applicability
        return Fix(identity, label, applicability, explanation, MappingProxyType(parameters))

    @classmethod
    def page(cls) -> str:
        """The rule's documentation page, as Markdown: its docstring with the sections as headings."""
        text = inspect.cleandoc(cls.__doc__ or "")
        for section in SECTIONS:
            text = re.sub(rf"^\*{re.escape(section)}\*\.?[ \t]*", f"## {section}\n\n", text, flags=re.MULTILINE)
        return f"# {cls.code} {cls.name}\n\n{text}\n"
