"""From transformers 4 to 5: what a program uses that was removed, renamed or changed, and the program as it must read now.

One migration is one entry of ``data/symbols.json`` (names, modules) or ``data/changes.json`` (arguments, methods, defaults), which the
rules for live failures read, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.migrate.edits import add_import
from tfdiag_ipython.migrate.finder import Change, Finding
from tfdiag_ipython.migrate.findings import find
from tfdiag_ipython.migrate.program import Program
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.rules.imp._symbols import older

__all__ = ["Finding", "Migration", "migrate", "summary"]


@dataclass(frozen=True)
class Migration:
    """What was found in some cells, and what they become."""

    program: Program
    changes: tuple[Change, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.program.cells

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(change.finding for change in self.changes)

    @property
    def skipped(self) -> tuple[Cell, ...]:
        """Cells that cannot be read as Python: nothing in them was looked at."""
        return tuple(self.cells[index] for index in self.program.skipped)

    def sources(self, *, unsafe: bool = False, release: str = "") -> dict[int, str]:
        """The new source of each cell that changes, by its index; with ``unsafe`` also where it means something else then.

        ``release`` leaves out what that release of transformers does not understand yet.
        """
        allowed = {Applicability.SAFE, *([Applicability.UNSAFE] if unsafe else [])}
        chosen = [
            change
            for change in self.changes
            if change.finding.applicability in allowed and not older(release, change.finding.since or "0")
        ]
        edits: defaultdict[Any, list[Callable[[Any], Any]]] = defaultdict(list)
        for change in chosen:
            for node, edit in change.edits:
                edits[node].append(edit)
        changed = self.program.edited(edits)
        for change in chosen:
            cell = change.finding.place.cell
            for name in change.imports:
                if name.rpartition(".")[2] in changed.get(cell, "") and not self.program.imports(name, cell):
                    changed[cell] = add_import(changed[cell], name)
        return changed


def migrate(cells: Sequence[Cell], live: Mapping[str, str] | None = None, *, release: str = "") -> Migration:
    """Look through cells, in the order in which they are run.

    ``live`` gives the kinds of variables that exist now, ``release`` the version of transformers that they run on, where that is known.
    Raises ``InputError`` where there is too much source.
    """
    program = Program(cells)
    return Migration(program, tuple(find(program, live or {}, runs_on_4=older(release, "5"))))


def summary(findings: Sequence[Finding]) -> str:
    """How much there is to do, in one line."""
    if not findings:
        return "Nothing that transformers 5 removed, renamed or changed is used here."
    gone = sum(not finding.changed for finding in findings)
    edited = sum(finding.applicability is Applicability.SAFE for finding in findings)
    told = f"{gone} {'use' if gone == 1 else 'uses'} of what transformers 5 removed or renamed" if gone else ""
    changed = len(findings) - gone
    also = (
        f"{changed} that {'runs' if changed == 1 else 'run'} on and {'means' if changed == 1 else 'mean'} something else"
        if changed
        else ""
    )
    return f"{' and '.join(part for part in (told, also) if part)}; safe edits for {edited} of {len(findings)}"
