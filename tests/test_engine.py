"""Ranking, budgets and the containment of faulty rules and probes."""

import re
import time
from dataclasses import replace

import pytest

from tfdiag_ipython.diagnosis import Applicability, Certainty, Fix, Observation, Status
from tfdiag_ipython.engine import SHOWN, Engine
from tfdiag_ipython.errors import TfdiagError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.render.text import render_text
from tfdiag_ipython.rule import Offer, Rule
from tfdiag_ipython.testing import PlainHost


def make(code, diagnose, **values):
    defaults = {"code": code, "name": code.lower(), "message": re.compile("fault"), "needs": (), "fixes": ()}
    return type(code, (Rule,), {**defaults, **values, "diagnose": diagnose})()


def says(certainty):
    return lambda self, failure, hit, evidence: self.found(f"{self.code} says", certainty)


def live(message="a fault"):
    return Failure.from_exception(ValueError(message))


def test_certain_before_likely_before_possible_and_three_at_most():
    rules = [make(f"AAA00{n}", says(c)) for n, c in enumerate([*reversed(Certainty), Certainty.CONFIRMED], start=1)]
    found = Engine(Registry(rules)).diagnose(live())
    assert [diagnosis.certainty for diagnosis in found] == [Certainty.CONFIRMED, Certainty.CONFIRMED, Certainty.LIKELY]
    assert len(found) == SHOWN


class Interrupt(KeyboardInterrupt):
    """What nobody's Ctrl-C raises."""


def leaves(error):
    def fails(*_):
        raise error

    return fails


def answers(title="found", certainty=Certainty.LIKELY, **parts):
    return lambda self, failure, hit, evidence: replace(self.found(title, certainty), **parts)


FAULTS = [
    leaves(ZeroDivisionError()),
    leaves(SystemExit(3)),
    leaves(GeneratorExit()),
    leaves(Interrupt()),
    lambda *_: "nonsense",
    answers(certainty="confirmed"),
    answers(certainty=None),
    answers(title=None),
    answers(title=" "),
    answers(why=3),
    answers(code="AAA002"),
    answers(fixes=None),
    answers(fixes=("restart",)),
    answers(fixes=(Fix("a", "A", "safe"),)),
    answers(fixes=(Fix("a", None, Applicability.SAFE),)),
    answers(evidence=(Observation("what", 3),)),
    answers(links=("https://example.org",)),
]


@pytest.mark.parametrize("answer", FAULTS)
def test_faulty_rule_costs_nothing_but_an_entry_in_the_log(answer, caplog):
    found = Engine(Registry([make("AAA001", answer), make("AAA002", says(Certainty.LIKELY))])).diagnose(live())
    assert [diagnosis.code for diagnosis in found] == ["AAA002"]
    assert render_text(found) and "AAA001" in caplog.text


def test_a_rule_that_has_nothing_to_say_is_no_fault(caplog):
    assert Engine(Registry([make("AAA001", lambda *_: None)])).diagnose(live()) == []
    assert not caplog.text


def test_stop_ends_a_diagnosis():
    with pytest.raises(KeyboardInterrupt):
        Engine(Registry([make("AAA001", leaves(KeyboardInterrupt()))])).diagnose(live())


@pytest.mark.parametrize("plan", [leaves(SystemExit(3)), leaves(ZeroDivisionError()), lambda *_: None])
def test_a_faulty_plan_is_one_sentence(plan, caplog):
    rule = make("AAA001", says(Certainty.LIKELY), plan=plan)
    fix = Fix("a", "A", Applicability.SAFE)
    with pytest.raises(TfdiagError, match=r"could not be worked out .*nothing was changed"):
        Engine(Registry([rule])).plan(rule.found("t", Certainty.LIKELY), fix, Scene(), live())
    assert "AAA001" in caplog.text


class Exits(Plan):
    def preview(self):
        raise NotImplementedError

    def execute(self, progress):
        raise SystemExit(3)


class Unsure(Exits):
    def execute(self, progress):
        return "Done."

    def verify(self, progress):
        raise SystemExit(3)


def test_a_plan_that_exits_ends_in_a_sentence():
    engine = Engine(Registry())
    with pytest.raises(TfdiagError, match="The fix failed: SystemExit"):
        engine.apply(Exits(PlainHost()))
    done, verification = engine.apply(Unsure(PlainHost()))
    assert done == "Done." and verification.status is Status.NOT_CHECKED


def test_what_the_person_had_dealt_with_is_at_most_possible_and_offers_no_button():
    def diagnose(self, failure, hit, evidence):
        return self.found("says", Certainty.CONFIRMED, fixes=(self.offer("fix", "Fix it"),))

    rule = make("AAA001", diagnose, fixes=(Offer("fix", Applicability.SAFE),))
    try:
        try:
            raise ValueError("a fault")
        except ValueError:
            {}["key"]
    except KeyError as error:
        (found,) = Engine(Registry([rule])).diagnose(Failure.from_exception(error))
    assert found.certainty is Certainty.POSSIBLE
    assert [fix.applicability for fix in found.fixes] == [Applicability.DISPLAY_ONLY]
    assert "KeyError" in found.what


class Broken(Probe):
    name = "broken"

    def look(self, failure, scene):
        raise RuntimeError("broken")


class Slow(Probe):
    name = "slow"

    def look(self, failure, scene):
        while True:
            scene.deadline.check()
            time.sleep(0.001)


class Deep(Probe):
    name, deep = "deep", True

    def look(self, failure, scene):
        raise AssertionError("a deep probe must not run by itself")


class Exiting(Probe):
    name = "exiting"

    def look(self, failure, scene):
        raise SystemExit(3)


class Babbling(Probe):
    name = "babbling"

    def look(self, failure, scene):
        return Evidence(missing=None)


FAULTY_PROBES = [(Broken, "RuntimeError"), (Exiting, "SystemExit"), (Babbling, "failed")]


@pytest.mark.parametrize(("kind", "told"), [*FAULTY_PROBES, (Slow, "time"), (Deep, "%tfdiag probe deep")])
def test_probe_that_cannot_look_says_so(kind, told):
    rule = make("AAA001", says(Certainty.LIKELY), needs=(kind,))
    (found,) = Engine(Registry([rule])).diagnose(live(), Scene({}, live=True, seconds=0.05))
    assert told in " ".join(found.unseen)


def test_stored_text_is_never_confirmed_and_only_advised_on():
    class Look(Probe):
        name = "look"

        def look(self, failure, scene):
            raise AssertionError("the reader's machine is no evidence about stored text")

    def diagnose(self, failure, hit, evidence):
        return self.found("says", Certainty.CONFIRMED, fixes=(self.offer("fix", "Fix it"),))

    rule = make("AAA001", diagnose, needs=(Look,), fixes=(Offer("fix", Applicability.SAFE),))
    (found,) = Engine(Registry([rule])).diagnose(Failure.from_text("ValueError: a fault"), Scene({}, live=True))
    assert found.certainty is Certainty.LIKELY
    assert found.fixes[0].applicability is Applicability.DISPLAY_ONLY


def test_ignored_rule_is_silent():
    registry = Registry([make("AAA001", says(Certainty.LIKELY))])
    assert Engine(registry, ignored=frozenset({"AAA001"})).diagnose(live()) == []
