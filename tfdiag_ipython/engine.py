"""From a failure to ranked diagnoses: match → gather quick evidence → diagnose; faults of rules are contained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Observation, Status, Verification, flaw
from tfdiag_ipython.errors import BudgetSpent, TfdiagError, is_stop
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Cancelled, Plan, Progress
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rule import Hit, Rule

SHOWN = 3
"""Diagnoses shown at most for one failure."""
log = logging.getLogger("tfdiag")


class Engine:
    """Diagnoses failures with a registry's rules. ``ignored`` holds codes that the person does not want to hear of."""

    def __init__(self, registry: Registry, *, ignored: frozenset[str] = frozenset()) -> None:
        self.registry = registry
        self.ignored = ignored

    def diagnose(
        self, failure: Failure, scene: Scene | None = None, known: Mapping[str, Evidence] | None = None
    ) -> list[Diagnosis]:
        """What the rules know of this failure, best first; empty when they know nothing. Never raises on a rule's fault.

        ``known`` is evidence by probe name that was gathered before (recorded values in tests, a deep probe's result).
        """
        scene = scene or Scene()
        gathered: dict[str, Evidence] = dict(known or {})
        found: list[tuple[tuple[int, int, bool, int, str], Diagnosis]] = []
        for rule, hit in self.registry.match(failure):
            if rule.code in self.ignored:
                continue
            evidence = {kind.name: self._look(kind, failure, scene, gathered) for kind in rule.needs}
            diagnosis = _asked(rule, failure, hit, evidence)
            if diagnosis is None:
                continue
            if hit.raised.relation == "handled":
                diagnosis = _handled(diagnosis, failure)
            found.append((_rank(diagnosis, hit, rule), _complete(diagnosis, failure, evidence)))
        found.sort(key=lambda pair: pair[0])
        return [diagnosis for _, diagnosis in found[:SHOWN]]

    def _look(self, kind: type[Probe], failure: Failure, scene: Scene, gathered: dict[str, Evidence]) -> Evidence:
        if kind.name not in gathered:
            gathered[kind.name] = _look(kind, failure, scene)
        return gathered[kind.name]

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene, failure: Failure) -> Plan:
        """Work a fix out; raises :class:`TfdiagError` with one sentence when that is impossible here."""
        rule = self.registry.get(diagnosis.code)
        try:
            plan = rule.plan(diagnosis, fix, scene)
            if not isinstance(plan, Plan):
                raise TypeError(f"plan returned {type(plan).__name__} instead of a plan")
        except TfdiagError:
            raise
        except BaseException as error:
            if is_stop(error):
                raise
            log.exception("Rule %s could not plan %s.", diagnosis.code, fix.id)
            raise TfdiagError(
                f"This fix could not be worked out ({type(error).__name__}); nothing was changed."
            ) from error
        if plan.failure is None:
            plan.failure = failure
        return plan

    def apply(self, plan: Plan, progress: Progress | None = None) -> tuple[str, Verification]:
        """Carry a plan out and verify it: what was done, and how it ended. Raises :class:`TfdiagError` with one sentence."""
        progress = progress or Progress()
        try:
            progress.report("Working …")
            done = str(plan.execute(progress))
        except TfdiagError:
            raise
        except BaseException as error:
            if is_stop(error):
                raise
            log.exception("A fix failed.")
            raise TfdiagError(f"The fix failed: {type(error).__name__}: {error}") from error
        try:
            verification = plan.verify(progress)
            if not isinstance(verification, Verification):
                raise TypeError(f"verify returned {type(verification).__name__}")
        except Cancelled:
            verification = Verification(Status.NOT_CHECKED, "The check was cancelled.")
        except BaseException as error:
            if is_stop(error):
                raise
            log.exception("A verification failed.")
            verification = Verification(Status.NOT_CHECKED, f"The check itself failed: {type(error).__name__}: {error}")
        return done, verification


def _asked(rule: Rule, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
    """What the rule says, if that is a diagnosis that can be shown; its faults end in the log."""
    try:
        found = rule.diagnose(failure, hit, evidence)
    except BaseException as error:  # SystemExit of a rule must not end the person's program
        if is_stop(error):
            raise
        log.exception("Rule %s failed.", rule.code)
        return None
    if found is None:
        return None
    wrong = flaw(found)
    if not wrong and found.code != rule.code:
        wrong = f"a diagnosis of {found.code}"
    if wrong:
        log.error("Rule %s returned %s.", rule.code, wrong)
        return None
    return found


def _look(kind: type[Probe], failure: Failure, scene: Scene) -> Evidence:
    if failure.stored or not scene.live:
        return Evidence(missing="stored text: there is no program here to look at" if failure.stored else scene.unseen)
    if kind.deep:
        return Evidence(missing=f"a thorough look takes time: `%tfdiag probe {kind.name}`")
    if scene.deadline.passed:
        return Evidence(missing="the time for quick looks was used up")
    try:
        evidence = kind().look(failure, scene)
    except BudgetSpent:
        return Evidence(missing="the time for quick looks was used up")
    except BaseException as error:
        if is_stop(error):
            raise
        log.exception("Probe %s failed.", kind.name)
        return Evidence(missing=f"the look failed ({type(error).__name__})")
    if not _is_evidence(evidence):
        log.error("Probe %s returned %s that is no evidence.", kind.name, type(evidence).__name__)
        return Evidence(missing="the look failed")
    return evidence


def _is_evidence(value: object) -> bool:
    return (
        isinstance(value, Evidence)
        and isinstance(value.facts, Mapping)
        and isinstance(value.missing, str)
        and isinstance(value.seen, Sequence)
        and all(isinstance(seen, Observation) for seen in value.seen)
    )


def _rank(diagnosis: Diagnosis, hit: Hit, rule: Rule) -> tuple[int, int, bool, int, str]:
    """Certainty first, then what reached the top before its causes, then the rule whose signature says more."""
    return (diagnosis.certainty.rank, hit.position, not rule.specific, -hit.weight, diagnosis.code)


def _handled(diagnosis: Diagnosis, failure: Failure) -> Diagnosis:
    """The person's code had dealt with this exception when another one was raised: it may be the reason, or beside the point."""
    fixes = tuple(replace(fix, applicability=Applicability.DISPLAY_ONLY) for fix in diagnosis.fixes)
    what = f"Your code caught this; while it handled it, {failure.top.name} was raised. {diagnosis.what}".strip()
    return replace(diagnosis, certainty=Certainty.POSSIBLE, fixes=fixes, what=what)


def _complete(diagnosis: Diagnosis, failure: Failure, evidence: Mapping[str, Evidence]) -> Diagnosis:
    """Add what every diagnosis has: the cell, and what could not be looked at. Stored text can only be advised on."""
    unseen = tuple(sorted({seen.missing for seen in evidence.values() if seen.missing and not failure.stored}))
    fixes, certainty = diagnosis.fixes, diagnosis.certainty
    if failure.stored:
        fixes = tuple(replace(fix, applicability=Applicability.DISPLAY_ONLY) for fix in fixes)
        certainty = Certainty.LIKELY if certainty is Certainty.CONFIRMED else certainty
    return replace(diagnosis, cell=failure.cell, unseen=(*diagnosis.unseen, *unseen), fixes=fixes, certainty=certainty)
