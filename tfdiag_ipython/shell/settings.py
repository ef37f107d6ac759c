"""What a person can set: with ``%tfdiag config panel=off`` or ``%config TfdiagSettings.panel = False``, in ``ipython_config.py`` as
``c.TfdiagSettings.panel = False``, or in the environment as ``TFDIAG_PANEL=off``."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
from collections.abc import Container, Mapping
from typing import Any

from IPython.core.error import UsageError
from traitlets import Bool, Float, Int, Set, TraitError, Unicode, validate
from traitlets.config import Configurable
from traitlets.config.loader import DeferredConfig, LazyConfigValue

from tfdiag_ipython.diagnosis import CODE

_YES, _NO = ("on", "yes", "true", "1"), ("off", "no", "false", "0")


class TfdiagSettings(Configurable):  # type: ignore[misc]
    """The settings of one shell."""

    enabled = Bool(True, help="Look at failing cells (`%tfdiag on`, `%tfdiag off`).").tag(config=True)
    panel = Bool(True, help="Show the buttons under a diagnosis, where the front end has widgets.").tag(config=True)
    quiet = Bool(False, help="Show the answer alone; `%tfdiag` then shows the evidence and the fixes.").tag(config=True)
    shown = Int(3, min=1, max=3, help="Diagnoses shown at most for one failure.").tag(config=True)
    budget = Float(1.0, min=0.0, max=5.0, help="Seconds that all quick looks at one failure may take.").tag(config=True)
    patience = Float(
        2.0, min=0.0, max=600.0, help="Seconds that measuring may take when a watched cell has ended."
    ).tag(config=True)
    watch = Set(
        Unicode(),
        help="What is watched in every cell (hub, padding, warnings), separated by commas; see `%tfdiag on padding`.",
    ).tag(config=True)
    ignored = Set(Unicode(), help="Codes of rules that stay silent, separated by commas.").tag(config=True)

    @classmethod
    def of(cls, shell: Any) -> tuple[TfdiagSettings, list[str]]:
        """The settings that the shell's configuration asks for; of a name or value that cannot be taken, a sentence."""
        section = shell.config.get(cls.__name__, {})
        wrong = [
            f"c.{other} is skipped: the settings are c.{cls.__name__}."
            for other in shell.config
            if other != cls.__name__ and other.lower().startswith("tfdiag")
        ]
        if all(name in cls.names() and not isinstance(value, LazyConfigValue) for name, value in section.items()):
            with contextlib.suppress(TraitError):  # one wrong value in a file must not cost the person the extension
                return cls(parent=shell), wrong
        settings = cls()
        for name, value in section.items():
            try:
                settings._check(name, UsageError)
            except UsageError as error:
                wrong.append(f"c.{cls.__name__}.{name} is skipped: {error}")
                continue
            try:
                settings._configure(name, value)
            except UsageError as error:
                wrong.append(f"c.{cls.__name__}.{name} is left as it was: {error}")
        return settings, wrong

    def _configure(self, name: str, value: Any) -> None:
        """Set one setting from the configuration; raises ``UsageError`` with one sentence."""
        trait = self.traits()[name]
        if isinstance(value, str):  # typed on the command line, or as `%tfdiag config` takes it
            self.change(name, value)
            return
        if isinstance(value, DeferredConfig):  # given several times on the command line
            value = value.get_value(trait)
        elif isinstance(value, LazyConfigValue):  # `c.TfdiagSettings.watch.add("padding")`
            value = value.get_value(before := getattr(self, name))
            if value == before:  # `.append`, which traitlets drops without a word
                raise UsageError(
                    f"nothing was added to it, for only `.add` and `=` do; it takes {_takes(name, trait)}."
                )
        try:
            setattr(self, name, value)
        except TraitError:
            raise UsageError(f"{value!r} is no value for {name}: it takes {_takes(name, trait)}.") from None

    @validate("ignored")  # type: ignore[untyped-decorator]
    def _as_codes(self, proposal: Any) -> set[str]:
        """Codes as the rules spell them, whichever way they came in; raises ``TraitError`` with one sentence."""
        codes = {code.upper() for code in proposal["value"]}
        for code in sorted(codes):
            if not CODE.fullmatch(code):
                raise TraitError(f"{code!r} is no code of a rule, such as IDX001.")
        return codes

    @validate("budget", "patience")  # type: ignore[untyped-decorator]
    def _as_seconds(self, proposal: Any) -> float:
        """A number of seconds; raises ``TraitError`` with one sentence."""
        if not math.isfinite(proposal["value"]):
            raise TraitError(f"{proposal['value']} is no number of seconds for {proposal['trait'].name}.")
        return float(proposal["value"])

    @validate("watch")  # type: ignore[untyped-decorator]
    def _as_watches(self, proposal: Any) -> set[str]:
        """Names of watches; raises ``TraitError`` with one sentence."""
        from tfdiag_ipython.watch import WATCHERS

        for name in proposal["value"]:
            if name not in WATCHERS:
                raise TraitError(f"There is no watch {name!r}. There are {', '.join(sorted(WATCHERS))}.")
        return set(proposal["value"])

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and meaning of each setting."""
        return [(name, self._told(name), str(self.traits()[name].help)) for name in self.names()]

    @classmethod
    def names(cls) -> list[str]:
        """The settings, in the order in which they are listed."""
        return [
            name
            for name in ("enabled", "panel", "quiet", "shown", "budget", "patience", "watch", "ignored")
            if name in cls.class_trait_names()
        ]

    def take(self, configured: Container[str], environment: Mapping[str, str] = os.environ) -> list[str]:
        """Set what ``TFDIAG_<NAME>`` says and is not ``configured``; returns a sentence for each value that cannot be taken."""
        wrong = []
        for name in self.names():
            variable = f"TFDIAG_{name.upper()}"
            if name not in configured and variable in environment:
                try:
                    self.change(name, environment[variable])
                except UsageError as error:
                    wrong.append(f"{variable}: {error}")
        for variable in environment:
            name = variable.removeprefix("TFDIAG_").lower()
            if variable.startswith("TFDIAG_") and name not in self.names() and _near(name, self.names()):
                wrong.append(
                    f"{variable} is skipped: tfdiag has no setting {name!r}. Did you mean {_near(name, self.names())}?"
                )
        return wrong

    def change(self, name: str, text: str) -> None:
        """Set one setting from what was typed; raises ``UsageError`` with one sentence."""
        self._check(name, UsageError)
        trait = self.traits()[name]
        try:
            setattr(self, name, _value(name, trait, text.strip()))
        except (TraitError, ValueError):
            raise UsageError(f"{text.strip()!r} is no value for {name}: it takes {_takes(name, trait)}.") from None

    def update_config(self, config: Any) -> None:
        """What ``%config`` calls. Of a misspelt name traitlets warns once and keeps it; here it is an error each time, as a wrong value is."""
        for name in config.get(type(self).__name__, ()):
            self._check(name, TraitError)
        super().update_config(config)

    def _check(self, name: str, error: type[Exception]) -> None:
        """Raise an error with one sentence where there is no such setting."""
        if name not in self.names():
            near = _near(name, self.names())
            hint = f"Did you mean {near}?" if near else f"There are {', '.join(self.names())}."
            raise error(f"tfdiag has no setting {name!r}. {hint}")

    def _told(self, name: str) -> str:
        value = getattr(self, name)
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, (set, frozenset)):
            return ",".join(sorted(value)) or "none"
        return str(value)


def _near(name: str, names: list[str]) -> str:
    return next(iter(difflib.get_close_matches(name, names, n=1)), "")


def _value(name: str, trait: Any, text: str) -> object:
    if isinstance(trait, Bool):
        if text.lower() not in (*_YES, *_NO):
            raise ValueError(text)
        return text.lower() in _YES
    if isinstance(trait, Int):
        return int(text)
    if isinstance(trait, Float):
        return float(text)
    words = {word for word in re.split(r"[,\s]+", text) if word and word.lower() != "none"}
    if name == "watch":
        return {word.lower() for word in words}
    return words


def _takes(name: str, trait: Any) -> str:
    if isinstance(trait, Bool):
        return "on or off"
    if isinstance(trait, (Int, Float)):
        kind = "a whole number" if isinstance(trait, Int) else "a number"
        return f"{kind} from {trait.min} to {trait.max}"
    if name == "watch":
        return "hub, padding, warnings, separated by commas, or none"
    return "codes such as IDX001, separated by commas, or none"
