"""Ranking, budgets and the containment of faulty rules and probes."""

import re
import time

import pytest

from tfdiag_ipython.diagnosis import Applicability, Certainty
from tfdiag_ipython.engine import SHOWN, Engine
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Probe, Scene
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rule import Offer, Rule


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


@pytest.mark.parametrize("answer", [lambda *_: 1 / 0, lambda *_: "nonsense", lambda *_: None])
def test_faulty_rule_costs_nothing(answer, caplog):
    found = Engine(Registry([make("AAA001", answer), make("AAA002", says(Certainty.LIKELY))])).diagnose(live())
    assert [diagnosis.code for diagnosis in found] == ["AAA002"]


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


@pytest.mark.parametrize(("kind", "told"), [(Broken, "RuntimeError"), (Slow, "time"), (Deep, "%tfdiag probe deep")])
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
