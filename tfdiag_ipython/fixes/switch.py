"""Set an environment variable and the live switch behind it: libraries read most variables once, on import."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.addresses import hide_logins
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.probe import Cell


@dataclass(frozen=True)
class Switch:
    """``module.attribute`` of a loaded module that must hold ``value`` (found by ``sys.modules`` when the plan is made).

    The attribute may be one of an object in the module (``api.endpoint``).
    """

    module: str
    attribute: str
    value: Any


class SetSwitches(Plan):
    """Set variables (``None`` unsets) and module attributes, call ``refresh`` hooks, and run the failing cell again."""

    def __init__(
        self,
        host: Host,
        variables: Mapping[str, str | None],
        switches: Sequence[Switch] = (),
        *,
        refresh: Sequence[Callable[[], object]] = (),
        reruns: tuple[Cell, ...] = (),
        failure: Failure | None = None,
        note: str = "",
    ) -> None:
        super().__init__(host, reruns=reruns, failure=failure)
        self.variables = dict(variables)
        self.switches = tuple(switches)
        self.refresh = tuple(refresh)
        self.note = note
        self._variables_before: dict[str, str | None] = {}
        self._switches_before: list[tuple[Switch, Any]] = []

    def preview(self) -> Preview:
        lines = [f"unset {name}" if value is None else f"{name}={value}" for name, value in self.variables.items()]
        lines += [f"{switch.module}.{switch.attribute} = {switch.value!r}" for switch in self.switches]
        note = f"{self.note} It lasts until this kernel ends. {self.then_runs()}"
        return Preview("command", hide_logins("\n".join(lines)), note.strip())

    def execute(self, progress: Progress) -> str:
        for name, value in self.variables.items():
            self._variables_before[name] = os.environ.get(name)
            _set_variable(name, value)
        for switch in self.switches:
            owner, name = _owner(switch)
            if hasattr(owner, name):
                self._switches_before.append((switch, getattr(owner, name)))
                setattr(owner, name, switch.value)
        for hook in self.refresh:
            hook()
        return f"Set {', '.join(self.variables)} and {len(self._switches_before)} live switch(es) behind it."

    def undo(self) -> str:
        for name, value in self._variables_before.items():
            _set_variable(name, value)
        for switch, before in self._switches_before:
            setattr(*_owner(switch), before)
        for hook in self.refresh:
            hook()
        names, self._variables_before, self._switches_before = list(self._variables_before), {}, []
        return f"{', '.join(names)} as before. {self.put_back()}".strip()


def _owner(switch: Switch) -> tuple[object, str]:
    """What holds the switch, ``None`` where it is not loaded, and its name there."""
    outer, _, name = switch.attribute.rpartition(".")
    module = sys.modules.get(switch.module)
    return (getattr(module, outer, None) if outer else module), name


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
