"""A small pack of rules for the shell's tests: no torch, real probes, real plans."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.api import registry
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Observation, Status, Verification
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.memory import FreeMemory
from tfdiag_ipython.fixes.restart import restart
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.rule import Hit, Offer, Rule


class WidgetProbe(Probe):
    """The size of the widget in the failing frame."""

    name = "widget"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frames = scene.find_frames("assemble")
        if not frames:
            return Evidence(missing=scene.unseen or "no frame of assemble")
        size = int(frames[0].locals["size"])
        return Evidence({"size": size}, (Observation("size", str(size), "frame `assemble`"),))


class MeasureProbe(Probe):
    """The length of a list that the person names."""

    name = "measure"
    deep = True
    usage = "NAME"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        name = failure.top.message
        if name == "explode":
            raise ZeroDivisionError("a fault of the probe")
        size = len(scene.namespace[name])
        seen = (Observation(f"len({name})", str(size), f"variable `{name}`"),)
        finding = Failure.from_finding("tfdiag.TooLong", f"{name} is too long", {"size": size}) if size > 3 else None
        return Evidence({"size": size}, seen, finding=finding)


class _Deferred(Plan):
    def preview(self):
        raise NotImplementedError

    def execute(self, progress: Progress) -> str:
        return "Told the widget."

    def verify(self, progress: Progress) -> Verification:
        return Verification(Status.PENDING, "Run the cell again.")


class BrokenWidget(Rule):
    """A widget that was put together wrongly."""

    code = "TST001"
    name = "broken-widget"
    raised = ("builtins.RuntimeError",)
    message = re.compile(r"the widget is (?P<state>\w+)")
    needs = (WidgetProbe,)
    fixes = (
        Offer("mend", Applicability.UNSAFE),
        Offer("free", Applicability.SAFE),
        Offer("restart", Applicability.UNSAFE),
        Offer("later", Applicability.SAFE),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence["widget"]
        offers = tuple(self.offer(offer.id, offer.id.capitalize()) for offer in self.fixes)
        if not seen:
            return self.found(f"The widget is {hit['state']}", Certainty.LIKELY, fixes=offers)
        return self.found(
            f"The widget of size {seen['size']} is {hit['state']}",
            Certainty.CONFIRMED,
            evidence=seen.seen,
            fixes=offers,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        assert scene.host is not None
        if fix.id == "free":
            return FreeMemory(scene.host)
        if fix.id == "restart":
            return restart(scene)
        if fix.id == "later":
            return _Deferred(scene.host)
        return edit_cells(scene, lambda source: source.replace("'broken'", "'whole'"))


class ManyRules(Rule):
    """A rule of a pack that has numbered its rules with four digits."""

    code = "ABC1234"
    name = "many-rules"
    raised = ("builtins.RuntimeError",)
    message = re.compile(r"the pack has too many rules")

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found("There are more than a thousand rules", Certainty.LIKELY)


class TooLong(Rule):
    """A list that is too long."""

    code = "TST002"
    name = "too-long"
    kinds = ("check",)
    message = re.compile(r"(?P<name>\w+) is too long")
    needs = (MeasureProbe,)

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found(f"{hit['name']} has {evidence['measure']['size']} items", Certainty.CONFIRMED)


class RustyWidget(Rule):
    """A library that complains without raising."""

    code = "TST003"
    name = "rusty-widget"
    kinds = ("warning",)
    message = re.compile(r"the widget gathers (?P<what>\w+)")

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        return self.found(f"The widget gathers {hit['what']}", Certainty.LIKELY)


class Faulty(Rule):
    """A rule with a fault of its own."""

    code = "TST004"
    name = "faulty"
    message = re.compile(r"make the rule itself fail")

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        raise ZeroDivisionError("a fault of the rule")


ASSEMBLE = """
def assemble(size, state='whole'):
    if state == 'broken':
        raise RuntimeError('the widget is broken')
    return size
"""
FAILS = "assemble(7, 'broken')"


def install() -> None:
    """Add the rules to this process's registry, once."""
    for kind in (BrokenWidget, ManyRules, TooLong, RustyWidget, Faulty):
        if kind.code not in registry():
            registry().add(kind())
