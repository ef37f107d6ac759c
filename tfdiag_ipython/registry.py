"""The known rules and the index that finds those whose signature fits a failure without trying every regular expression."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
import logging
import pkgutil
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import GenericAlias, MappingProxyType, ModuleType
from typing import Any, get_args

from tfdiag_ipython.diagnosis import CODE, Link
from tfdiag_ipython.errors import UnknownCodeError, is_stop
from tfdiag_ipython.failure import Failure, Kind, Raised
from tfdiag_ipython.patterns import parsed
from tfdiag_ipython.probe import Probe
from tfdiag_ipython.rule import Hit, Offer, Rule

GROUP = "tfdiag.rules"
"""Entry-point group: each entry names an importable package or module that holds rules."""
BUILTIN = "tfdiag_ipython.rules"
GRAM = 4
log = logging.getLogger("tfdiag")


@dataclass(frozen=True)
class PackProblem:
    """A pack, or one of its modules or rules, that was left out, and why."""

    pack: str
    reason: str


class Registry:
    """Rules by code, and the index over exception types and the literal text of their messages."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[str, Rule] = {}
        self._names: dict[str, str] = {}
        self._index: _Index | None = None
        self.problems: list[PackProblem] = []
        for rule in rules:
            self.add(rule)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules[code] for code in sorted(self._rules))

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, code: object) -> bool:
        return code in self._rules

    def get(self, code: str) -> Rule:
        """The rule with this code, in any case, or with this name; :class:`UnknownCodeError` names the nearest codes."""
        wanted = code.strip()
        known = self._rules.get(wanted.upper()) or self._rules.get(self._names.get(wanted.lower(), ""))
        if known is None:
            near = difflib.get_close_matches(wanted.upper(), self._rules, n=3, cutoff=0.6)
            raise UnknownCodeError(code, tuple(near))
        return known

    def add(self, rule: Rule, pack: str = "") -> None:
        """Take a rule in; one whose code or name is taken, or whose contract is broken, is reported and left out."""
        reason = _checked(rule)
        if not reason and rule.code in self._rules:
            other = type(self._rules[rule.code])
            reason = f"{rule.code} is already defined by {other.__module__}.{other.__qualname__}"
        elif not reason and rule.name in self._names:
            reason = f"the name {rule.name!r} already belongs to {self._names[rule.name]}"
        if reason:
            self._report(pack or type(rule).__module__, reason)
            return
        self._rules[rule.code] = rule
        self._names[rule.name] = rule.code
        self._index = None

    def add_pack(self, pack: str) -> None:
        """Take in all rules of an importable module or package, walking its modules."""
        try:
            root = importlib.import_module(pack)
        except BaseException as error:  # a broken pack may raise anything, SystemExit included
            if is_stop(error):
                raise
            self._report(pack, f"it could not be imported: {type(error).__name__}: {error}")
            return
        for module in self._modules(root):
            for kind in _own_rules(module):
                try:
                    rule = kind()
                except BaseException as error:
                    if is_stop(error):
                        raise
                    self._report(pack, f"{kind.__qualname__} could not be made: {type(error).__name__}: {error}")
                else:
                    self.add(rule, pack)

    def probes(self) -> dict[str, type[Probe]]:
        """All probes by name: the built-in ones and those that rules of other packs need."""
        import tfdiag_ipython.probes as package

        found: dict[str, type[Probe]] = {}
        for module in self._modules(package):
            for kind in vars(module).values():
                if _is_class(kind) and issubclass(kind, Probe) and not inspect.isabstract(kind):
                    found.setdefault(kind.name, kind)
        for rule in self:
            for kind in rule.needs:
                found.setdefault(kind.name, kind)
        return dict(sorted(found.items()))

    def match(self, failure: Failure) -> list[tuple[Rule, Hit]]:
        """Rules whose signature fits, each with its first fitting exception of the chain."""
        if self._index is None:
            self._index = _Index(self._rules.values())
        found: dict[str, tuple[Rule, Hit]] = {}
        for position, raised in enumerate(failure.chain):
            for rule in self._index.candidates(raised):
                if rule.code in found or not _right_kind(rule, failure):
                    continue
                hit = _fits(rule, raised, position)
                if hit is not None:
                    found[rule.code] = (rule, replace(hit, weight=self._index.weight(rule, raised)))
        return [found[code] for code in sorted(found)]

    def _modules(self, root: ModuleType) -> Iterator[ModuleType]:
        yield root
        paths = getattr(root, "__path__", None)
        if paths is None:
            return
        for info in pkgutil.walk_packages(paths, f"{root.__name__}.", onerror=lambda name: None):
            try:
                module = importlib.import_module(info.name)
            except BaseException as error:
                if is_stop(error):
                    raise
                self._report(info.name, f"it could not be imported: {type(error).__name__}: {error}")
            else:
                yield module

    def _report(self, pack: str, reason: str) -> None:
        self.problems.append(PackProblem(pack, reason))
        log.warning("Rule pack %s: %s.", pack, reason)


def load_registry() -> Registry:
    """The built-in rules and those of every installed pack; a broken pack is reported in ``problems``, never fatal."""
    registry = Registry()
    registry.add_pack(BUILTIN)
    entries = {entry.value for entry in importlib.metadata.entry_points(group=GROUP)}
    for pack in sorted(entries - {BUILTIN}):
        registry.add_pack(pack)
    return registry


def _is_class(value: object) -> bool:
    """Python 3.10 also takes aliases such as ``dict[str, str]`` for classes."""
    return inspect.isclass(value) and not isinstance(value, GenericAlias)


def _own_rules(module: ModuleType) -> list[type[Rule]]:
    return [
        kind
        for kind in vars(module).values()
        if _is_class(kind)
        and issubclass(kind, Rule)
        and kind.__module__ == module.__name__
        and not inspect.isabstract(kind)
    ]


def _checked(rule: Rule) -> str:
    """What :func:`_defect` says; a declaration that cannot even be read is a defect, too."""
    try:
        return _defect(rule)
    except BaseException as error:
        if is_stop(error):
            raise
        return f"the declaration of {type(rule).__qualname__} cannot be read ({type(error).__name__})"


def _defect(rule: Rule) -> str:
    """What is wrong with a rule's declaration, in a few words; empty when it is sound."""
    label = type(rule).__qualname__
    code, name, message = (getattr(rule, attribute, "") for attribute in ("code", "name", "message"))
    if not isinstance(code, str) or not CODE.fullmatch(code):
        return f"{label} has no code of the form ABC123"
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        return f"{code} has no kebab-case name"
    if not isinstance(message, re.Pattern) or not isinstance(message.pattern, str):
        return f"{code} has no compiled message pattern"
    if not isinstance(rule.kinds, tuple) or not rule.kinds or set(rule.kinds) - set(get_args(Kind)):
        return f"the kinds of {code} are no tuple of {', '.join(get_args(Kind))}"
    for attribute, kind in (("raised", str), ("fixes", Offer), ("links", Link)):
        items = getattr(rule, attribute)
        if not isinstance(items, tuple) or not all(isinstance(item, kind) for item in items):
            return f"{attribute} of {code} is no tuple of {kind.__name__}"
    if not isinstance(rule.needs, tuple) or not all(_is_probe(kind) for kind in rule.needs):
        return f"needs of {code} is no tuple of probe classes"
    return ""


def _is_probe(value: object) -> bool:
    return _is_class(value) and issubclass(value, Probe) and isinstance(getattr(value, "name", None), str)  # type: ignore[arg-type]


def _right_kind(rule: Rule, failure: Failure) -> bool:
    """Stored text does not say whether it was raised or logged; a check's findings are never text."""
    if failure.stored:
        return rule.kinds != ("check",)
    return failure.kind in rule.kinds


def _fits(rule: Rule, raised: Raised, position: int) -> Hit | None:
    if rule.raised and raised.types and not raised.is_a(*rule.raised) and not _printed_as(rule, raised):
        return None
    found = rule.message.search(raised.message)
    if found is None:
        return None
    return Hit(raised, position, MappingProxyType({key: value or "" for key, value in found.groupdict().items()}))


def _printed_as(rule: Rule, raised: Raised) -> bool:
    """Stored text prints ``httpx.ConnectError`` where a rule says ``ConnectError`` or ``httpx2.ConnectError``."""
    return raised.name in {name.rpartition(".")[2] for name in rule.raised}


class _Index:
    """Finds candidate rules by the four-letter grams of the literals that their patterns require.

    Each literal is filed under its gram that the fewest other literals share; a look-up takes the grams of the message once and
    is independent of the number of rules.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        needed = {rule.code: (rule, required_literals(rule.message)) for rule in rules}
        self._literals = {code: literals for code, (_, literals) in needed.items()}
        counts: Counter[str] = Counter()
        for _, literals in needed.values():
            for literal in literals:
                counts.update(_grams(literal))
        self._by_gram: dict[str, list[tuple[str, Rule]]] = defaultdict(list)
        self._by_type: dict[str, list[Rule]] = defaultdict(list)
        self._always: list[Rule] = []
        for rule, literals in needed.values():
            if literals:
                for literal in literals:
                    rarest = min(_grams(literal), key=lambda gram: (counts[gram], gram))
                    self._by_gram[rarest].append((literal, rule))
            elif rule.raised:
                for name in rule.raised:
                    self._by_type[name.rpartition(".")[2]].append(rule)
            else:
                self._always.append(rule)

    def weight(self, rule: Rule, raised: Raised) -> int:
        """Length of the longest literal of the rule that this message holds."""
        text = raised.message.lower()
        return max((len(literal) for literal in self._literals[rule.code] if literal in text), default=0)

    def candidates(self, raised: Raised) -> list[Rule]:
        text = raised.message.lower()
        found = {rule.code: rule for rule in self._always}
        for gram in _grams(text) & self._by_gram.keys():
            found.update((rule.code, rule) for literal, rule in self._by_gram[gram] if literal in text)
        for name in {name.rpartition(".")[2] for name in raised.types}:
            found.update((rule.code, rule) for rule in self._by_type.get(name, ()))
        if not raised.types:
            found.update((rule.code, rule) for rules in self._by_type.values() for rule in rules)
        return [found[code] for code in sorted(found)]


def _grams(text: str) -> set[str]:
    return {text[start : start + GRAM] for start in range(len(text) - GRAM + 1)}


def required_literals(pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Lower-case texts of which every match contains at least one; empty when the pattern requires none.

    For an alternation it is the longest literal of each branch; elsewhere the longest literal of the sequence.
    """
    try:
        tree = parsed(pattern)
    except Exception:
        return ()
    return tuple(sorted(_literals(tree)))


def _literals(tree: Any) -> set[str]:
    """The best set of alternatives that a sequence offers: the one whose shortest member is longest."""
    options: list[set[str]] = []
    run = ""

    def end_run() -> None:
        nonlocal run
        if len(run) >= GRAM:
            options.append({run})
        run = ""

    for operation, argument in tree:
        name = str(operation)
        if name == "LITERAL":
            run += chr(argument).lower()
            continue
        end_run()
        if name == "SUBPATTERN":
            options.append(_literals(argument[-1]))
        elif name == "BRANCH":
            branches = [_literals(branch) for branch in argument[1]]
            options.append(set().union(*branches) if all(branches) else set())
        elif name in {"MAX_REPEAT", "MIN_REPEAT"} and argument[0] >= 1:
            options.append(_literals(argument[2]))
    end_run()
    return max((option for option in options if option), key=lambda option: min(map(len, option)), default=set())
