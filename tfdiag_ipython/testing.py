"""Turns the cases of any pack into tests: ``for label, check in cases("my_pack"): check()`` (or pytest parameters).

Each Match puts its rule first; each NoMatch is left alone by its rule; each Reproduce raises for real, and every fix that it
offers is planned, previewed, carried out, verified and undone. ``python -m tfdiag_ipython.testing PACK CODE N`` runs one case of a
rule in this process; isolated cases are run that way.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Status
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, RunResult
from tfdiag_ipython.growth import grows
from tfdiag_ipython.probe import Cell, Evidence, Scene
from tfdiag_ipython.registry import BUILTIN, Registry, load_registry
from tfdiag_ipython.restored import State, excused
from tfdiag_ipython.rule import SECTIONS, Match, NoMatch, Reproduce, Rule, Try


class Skip(Exception):
    """This case cannot run here; the message says what is missing."""


@dataclass
class PlainHost:
    """Runs cells in a namespace of its own, without IPython."""

    namespace: MutableMapping[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    cells: list[Cell] = field(default_factory=list)
    exception: BaseException | None = None
    restarted: bool = False
    cuda_dead: bool = False
    ran: list[Cell] = field(default_factory=list)

    def run(self, cell: Cell) -> RunResult:
        self.ran.append(cell)
        file = f"<cell {cell.number}>"
        linecache.cache[file] = (len(cell.source), None, cell.source.splitlines(keepends=True), file)
        self.exception = None
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell.source, file, "exec"), self.namespace)  # type: ignore[arg-type]
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not os.environ.get("TFDIAG_CHILD"):
                raise  # an isolated case may interrupt itself: nobody else does there
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next  # our own frame is not the program's
            self.exception = error
            return RunResult(Failure.from_exception(error, source=cell.source, cell=cell.label))
        return RunResult()

    def add(self, source: str) -> RunResult:
        """Run a new cell at the end of the history."""
        self.cells.append(Cell(len(self.cells) + 1, source))
        return self.run(self.cells[-1])

    def release(self) -> None:
        from tfdiag_ipython.fixes.memory import clear_traceback

        if self.exception is not None:
            clear_traceback(self.exception)
        self.exception = None

    def delete(self, name: str) -> None:
        value = self.namespace.get(name, self)
        for other in [other for other, kept in self.namespace.items() if kept is value]:
            del self.namespace[other]

    def restart(self, again: Sequence[Cell] = ()) -> None:
        self.restarted = True

    def scene(self) -> Scene:
        """The scene of the last cell, as the shell's hook would make it."""
        return Scene(self.namespace, exception=self.exception, cells=self.cells, host=self, live=True)


def cases(pack: str = BUILTIN, registry: Registry | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every check of a pack's rules: a label and a function that raises ``AssertionError`` (or :class:`Skip`).

    The rules of the other packs that are installed take part as rivals.
    """
    known = registry or _registry_with(pack)
    for rule in known:
        if not type(rule).__module__.startswith(pack):
            continue
        yield f"{rule.code}-declaration", partial(check_declaration, rule)
        for number, case in enumerate(rule.CASES, start=1):
            label = f"{rule.code}-{number}-{type(case).__name__.lower()}"
            yield label, partial(check_case, known, rule, number, pack)
    yield "problems", partial(_check_problems, known)


def _registry_with(pack: str) -> Registry:
    registry = load_registry()
    if not any(type(rule).__module__.startswith(pack) for rule in registry):
        registry.add_pack(pack)
    return registry


def _check_problems(registry: Registry) -> None:
    _expect(not registry.problems, f"packs with problems: {registry.problems}")


def check_declaration(rule: Rule) -> None:
    """The promises that can be read off the rule itself."""
    text = type(rule).__doc__ or ""
    places = [text.find(f"*{section}*") for section in SECTIONS]
    _expect(-1 not in places and places == sorted(places), f"{rule.code}: the docstring needs the sections {SECTIONS}")
    for kind in (Match, NoMatch):
        _expect(any(isinstance(case, kind) for case in rule.CASES), f"{rule.code} has no {kind.__name__} case")
    _expect(len({repr(case) for case in rule.CASES}) == len(rule.CASES), f"{rule.code} has the same case twice")
    slow = grows(rule.message)
    _expect(not slow, f"{rule.code}: the time of `message` grows faster than the text: {slow}")
    offered = [offer.id for offer in rule.fixes]
    _expect(len(set(offered)) == len(offered), f"{rule.code} declares a fix twice")
    executable = {offer.id for offer in rule.fixes if offer.applicability is not Applicability.DISPLAY_ONLY}
    tried = {attempt.fix for case in rule.CASES if isinstance(case, Reproduce) for attempt in case.fixes}
    _expect(not executable - tried, f"{rule.code}: no Reproduce case carries out {sorted(executable - tried)}")
    shown = {fix for case in rule.CASES if isinstance(case, Match) for fix in case.fixes} | tried
    _expect(not set(offered) - shown, f"{rule.code}: no case names the fixes {sorted(set(offered) - shown)}")


def check_case(registry: Registry, rule: Rule, number: int, pack: str = BUILTIN) -> None:
    """Run the rule's case with this number (from 1)."""
    case = rule.CASES[number - 1]
    if isinstance(case, Match):
        _check_match(registry, rule, case)
    elif isinstance(case, NoMatch):
        _check_no_match(registry, rule, case)
    elif (case.isolated or case.environment) and not os.environ.get("TFDIAG_CHILD"):
        _require(case)
        _run_isolated(pack, rule, case, number)
    else:
        _require(case)
        _check_reproduce(registry, rule, case)


def _check_match(registry: Registry, rule: Rule, case: Match) -> None:
    failure = case.failure or Failure.from_text(case.text)
    known = {name: Evidence(MappingProxyType(dict(facts))) for name, facts in case.evidence.items()}
    if known:
        failure = replace(failure, stored=False)
    found = Engine(registry).diagnose(failure, known=known)
    first = _first(rule, found, case.certainty)
    _pure(registry, rule, failure, known)
    _agree(rule, first, case.certainty, case.title)
    missing = set(case.fixes) - {fix.id for fix in first.fixes}
    _expect(not missing, f"{rule.code} does not offer {sorted(missing)} but {[fix.id for fix in first.fixes]}")


def _check_no_match(registry: Registry, rule: Rule, case: NoMatch) -> None:
    failure = case.failure or Failure.from_text(case.text)
    codes = [found.code for found in Engine(registry).diagnose(failure)]
    _expect(rule.code not in codes, f"{rule.code} speaks where it must be silent")
    _expect((codes[0] if codes else None) == case.code, f"expected {case.code}, got {codes}")


def _check_reproduce(registry: Registry, rule: Rule, case: Reproduce) -> None:
    host, first = _raise(registry, rule, case)
    failure = _failure(host, case)
    _pure(registry, rule, failure, {})
    _agree(rule, first, case.certainty, case.title)
    tried = {t.fix for other in rule.CASES if isinstance(other, Reproduce) for t in other.fixes}
    executable = {fix.id for fix in first.fixes if fix.applicability is not Applicability.DISPLAY_ONLY}
    _expect(executable <= tried, f"{rule.code} offers {sorted(executable - tried)}, which no case carries out")
    _expect(not (case.bare and executable), f"{rule.code} offers {sorted(executable)} where it must offer none")
    raised = [(host, first)]
    del host  # it holds what the next program needs room for
    for attempt in case.fixes:
        _carry_out(registry, rule, case, attempt, *(raised.pop() if raised else _raise(registry, rule, case)))


def _carry_out(
    registry: Registry, rule: Rule, case: Reproduce, attempt: Try, host: PlainHost, diagnosis: Diagnosis
) -> None:
    engine = Engine(registry)
    try:
        fix = diagnosis.fix(attempt.fix)
    except KeyError as error:
        raise AssertionError(str(error)) from None
    failure = _failure(host, case)
    plan: Plan = engine.plan(diagnosis, fix, host.scene(), failure)
    _expect(bool(plan.preview().text.strip()), f"{rule.code} {fix.id}: the preview is empty")
    before = State.of(host.namespace, plan) if plan.undoable else None
    host.ran.clear()
    done, verification = engine.apply(plan)
    _expect(bool(done.strip()), f"{rule.code} {fix.id}: execute does not say what it did")
    _expect(
        verification.status is attempt.status,
        f"{rule.code} {fix.id}: {verification.status.value} ({verification.detail}), expected {attempt.status.value}",
    )
    _expect(host.ran == list(plan.reruns)[: len(host.ran)], f"{rule.code} {fix.id}: other cells ran than it said")
    if before is not None:
        ran, told = bool(host.ran), plan.undo()
        _expect(bool(told.strip()), f"{rule.code} {fix.id}: undo does not say what it did")
        differs = before.differs(State.of(host.namespace, plan), excused(told, host.cells), ran=ran)
        _expect(not differs, f"{rule.code} {fix.id}: undo leaves {differs}")
        if attempt.status is Status.VERIFIED and not case.probe:
            again = host.run(host.cells[-1]).failure
            _expect(again is not None, f"{rule.code} {fix.id}: after undo the cell still succeeds")
            other = again is not None and again.top.types[:1] != failure.top.types[:1]
            _expect(not other, f"{rule.code} {fix.id}: after undo the cell fails otherwise: {again}")


def _raise(registry: Registry, rule: Rule, case: Reproduce) -> tuple[PlainHost, Diagnosis]:
    registry.match(Failure.from_text("builds the index"))  # as the shell does: when memory is full it is too late
    host = PlainHost()
    for number, source in enumerate(case.cells, start=1):
        result = host.add(source)
        last = number == len(case.cells) and not case.probe and case.finding is None
        told = "" if result.failure is None else f"{result.failure.top.name}: {result.failure.top.message[:300]}"
        _expect((result.failure is not None) == last, f"{rule.code}: cell {number} {told or 'raised nothing'}")
    failure = _failure(host, case)
    found = Engine(registry).diagnose(failure, host.scene())
    return host, _first(rule, found, case.certainty)


def _failure(host: PlainHost, case: Reproduce) -> Failure:
    if case.finding is not None:
        return case.finding
    if not case.probe:
        assert host.exception is not None
        return Failure.from_exception(host.exception, source=host.cells[-1].source, cell=host.cells[-1].label)
    name, _, arguments = case.probe.partition(" ")
    evidence = load_registry().probes()[name]().ask(arguments, host.scene())
    _expect(evidence.finding is not None, f"the probe found nothing: {evidence.missing or dict(evidence.facts)}")
    assert evidence.finding is not None
    return evidence.finding


def _first(rule: Rule, found: list[Diagnosis], certainty: Certainty | None) -> Diagnosis:
    codes = [diagnosis.code for diagnosis in found]
    own = next((diagnosis for diagnosis in found if diagnosis.code == rule.code), None)
    _expect(own is not None, f"{rule.code} says nothing; found {codes}")
    assert own is not None
    rivals = certainty is Certainty.POSSIBLE and found[0].certainty is Certainty.POSSIBLE
    _expect(found[0] is own or rivals, f"{rule.code} is not first: {codes}")
    return own


def _agree(rule: Rule, found: Diagnosis, certainty: Certainty | None, title: str) -> None:
    if certainty is not None:
        _expect(found.certainty is certainty, f"{rule.code} is {found.certainty.value}, expected {certainty.value}")
    _expect(bool(re.search(title, found.title)), f"{rule.code}: title {found.title!r} lacks {title!r}")
    _expect(
        "\n" not in found.title and len(found.title) <= 200, f"{rule.code}: the title is not one line: {found.title!r}"
    )
    declared = {offer.id: offer for offer in rule.fixes}
    order = list(Applicability)
    for fix in found.fixes:
        _expect(fix.id in declared, f"{rule.code} offers {fix.id!r} without declaring it")
        weaker = order.index(fix.applicability) >= order.index(declared[fix.id].applicability)
        _expect(weaker, f"{rule.code}: {fix.id} is offered as safer than declared")
    lacking = [offer.id for offer in rule.fixes if offer.always and offer.id not in {fix.id for fix in found.fixes}]
    _expect(not lacking, f"{rule.code} promises {lacking} always")


def _pure(registry: Registry, rule: Rule, failure: Failure, known: dict[str, Evidence]) -> None:
    engine, before = Engine(registry), repr((failure, known))
    first, second = (engine.diagnose(failure, known=known) for _ in range(2))
    _expect(first == second, f"{rule.code}: the same values gave two different diagnoses")
    _expect(repr((failure, known)) == before, f"{rule.code}: diagnose changed its input")


def _require(case: Reproduce) -> None:
    from packaging.requirements import Requirement

    for line in case.needs:
        unwanted = line.removeprefix("without ")
        if unwanted != line:
            if importlib.util.find_spec(unwanted) is not None:
                raise Skip(f"needs to be {line}")
            continue
        need = Requirement(line)
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            raise Skip(f"needs {need.name}") from None
        if not need.specifier.contains(version, prereleases=True):
            raise Skip(f"needs {line}, here is {version}")
    if case.gpu:
        import torch

        if not torch.cuda.is_available():
            raise Skip("needs a CUDA device")


def _run_isolated(pack: str, rule: Rule, case: Reproduce, number: int) -> None:
    environment = {**os.environ, "TFDIAG_CHILD": "1"}
    for name, value in case.environment.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    command = [sys.executable, "-m", "tfdiag_ipython.testing", pack, rule.code, str(number)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if child.returncode == 3:
        raise Skip(child.stdout.strip())
    _expect(child.returncode == 0, f"{child.stdout[-3000:]}\n{child.stderr[-3000:]}")


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def main(arguments: list[str]) -> int:
    """Run one case: 0 it holds, 1 it does not, 3 it cannot run here."""
    pack, code, number = arguments
    registry = _registry_with(pack)
    try:
        check_case(registry, registry.get(code), int(number), pack)
    except Skip as skip:
        print(skip)
        return 3
    except (AssertionError, PlanError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
