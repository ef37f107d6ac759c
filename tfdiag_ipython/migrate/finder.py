"""What every search through a program shares: the program, what its calls go to, and how a use is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.migrate.calls import Calls
from tfdiag_ipython.migrate.edits import Edit
from tfdiag_ipython.migrate.program import Place, Program

if TYPE_CHECKING:
    import libcst as cst

BY_HAND = Applicability.DISPLAY_ONLY


@dataclass(frozen=True)
class Finding:
    """One use of what changed. ``edit`` says what is written instead, or (display-only) what a person has to do."""

    place: Place
    title: str
    edit: str
    applicability: Applicability
    changed: bool = False  # runs on, and means something else
    since: str = ""  # the first minor release of transformers that takes the new form
    guide: str = ""

    @property
    def by_hand(self) -> bool:
        return self.applicability is Applicability.DISPLAY_ONLY


@dataclass(frozen=True)
class Change:
    """A finding with its edits of the tree, by node, and the names that the new form needs."""

    finding: Finding
    edits: tuple[tuple[Any, Edit], ...] = ()
    imports: tuple[str, ...] = ()


class Finder:
    """A search through one program."""

    def __init__(self, program: Program, calls: Calls) -> None:
        import libcst as cst

        self.program = program
        self.resolved = calls
        self.all_calls: list[cst.Call] = program.nodes(cst.Call)

    def finding(self, node: cst.CSTNode, title: str, edit: str, applicability: Applicability, **more: Any) -> Finding:
        return Finding(self.program.place(node), title, edit, applicability, **more)
