"""What transformers 5 removed, renamed or changed in a program: each use, and its edit.

It finds uses, not words: every name is resolved to where it comes from, so a comment, a string, another library's class or a local
function of the same name is left alone, and so is an import that the program itself guards with ``try``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.data.changes import environment
from tfdiag_ipython.migrate.calls import Calls
from tfdiag_ipython.migrate.finder import Change
from tfdiag_ipython.migrate.names import LIBRARIES, Names
from tfdiag_ipython.migrate.program import Program
from tfdiag_ipython.migrate.uses import Uses


def find(program: Program, live: Mapping[str, str], *, runs_on_4: bool) -> list[Change]:
    """Every change that concerns this program, in the order of its text.

    A changed default concerns a program that was written for transformers 4: it runs there (``runs_on_4``), or uses what is gone.
    """
    if not live and not program.mentions((*LIBRARIES, *environment())):
        return []
    calls = Calls(program, live)
    names, uses = Names(program, calls), Uses(program, calls)
    changes = [*names.imports(), *names.chains(), *uses.calls(), *uses.attributes(), *uses.signatures()]
    old = runs_on_4 or bool(changes)
    changes += [*uses.variables(), *uses.defaults(certain=old)]
    return sorted(changes, key=lambda change: (change.finding.place.cell, change.finding.place.line))
