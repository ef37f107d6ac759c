"""Whether an undo has brought back what there was: the program, its environment and its files, compared before and after."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdiag_ipython.bindings import keepable
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.names import names_used
from tfdiag_ipython.probe import Cell

_SET_BY_TRAINING = ("TORCHINDUCTOR_", "ACCELERATE_")
"""Variables that the libraries themselves set when a cell trains."""


_NOT_THE_PROGRAMS = {"__pycache__", "node_modules"}
_WHOLE = 1_000_000
"""Bytes of a file up to which its contents are compared, and not only its size."""


@dataclass(frozen=True)
class State:
    """What undo must bring back: what each variable is bound to and what it says, the environment, live switches, and files.

    The files are those of this folder and, as far as they were there before, of the folders that variables name. Of an object that may
    hold tensors only the identity is kept.
    """

    variables: Mapping[str, tuple[int, str]]
    environment: Mapping[str, str]
    switches: Mapping[str, str]
    files: Mapping[str, str]

    @classmethod
    def of(cls, variables: Mapping[str, Any], plan: Plan) -> State:
        namespace = {name: value for name, value in variables.items() if name != "__builtins__"}
        said = {name: (id(value), repr(value) if keepable(value) else "") for name, value in namespace.items()}
        own = {name: value for name, value in os.environ.items() if not name.startswith(_SET_BY_TRAINING)}
        live = {
            f"{switch.module}.{switch.attribute}": repr(getattr(sys.modules.get(switch.module), switch.attribute, None))
            for switch in getattr(plan, "switches", ())
        }
        folders = {str(value) for value in namespace.values() if type(value) is str or isinstance(value, Path)}
        files = {name: said for root in (".", *sorted(folders)) for name, said in _files(root).items()}
        return cls(said, own, live, files)

    def differs(self, now: State, allowed: set[str], *, ran: bool) -> list[str]:
        """What is another than it was, but for variables that undo said it does not put back, or made anew.

        ``ran`` says that cells ran in between: what these change in place, or write into a folder of theirs, is the person's.
        """
        found = {
            name
            for name in self.variables.keys() | now.variables.keys()
            if _seen(self.variables.get(name), ran) != _seen(now.variables.get(name), ran)
        }
        found -= {name for name in allowed if not self.variables.get(name, (0, ""))[1]}
        for before, after in ((self.environment, now.environment), (self.switches, now.switches)):
            found |= {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        found |= {name for name, said in self.files.items() if now.files.get(name) != said}
        found |= {name for name in now.files.keys() - self.files.keys() if not (ran and os.path.isabs(name))}
        return sorted(found)


def _seen(variable: tuple[int, str] | None, ran: bool) -> object:
    return variable[0] if variable is not None and ran else variable


def _files(root: str) -> dict[str, str]:
    """What the files in a folder hold; nothing where there is no such folder."""
    found: dict[str, str] = {}
    if not root or len(root) > 200 or "\0" in root or not os.path.isdir(root):
        return found
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name[0] != "." and name not in _NOT_THE_PROGRAMS]
        for path in (Path(folder, name) for name in names if name[0] != "."):
            with contextlib.suppress(OSError):  # it went meanwhile
                size = path.stat().st_size
                found[str(path)] = f"{size} {hashlib.sha1(path.read_bytes()).hexdigest() if size <= _WHOLE else ''}"
    return found


def excused(told: str, cells: Sequence[Cell]) -> set[str]:
    """The variables of which an undo says that they are not put back, and those of the cells that it ran again as they stand."""
    again = set(re.findall(r"Ran cell (\d+) as it stands", told))
    sources = [cell.source for cell in cells if str(cell.number) in again]
    return set(re.findall(r"`(\w+)`", told)).union(*(names_used(source)[0] for source in sources))
