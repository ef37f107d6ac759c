"""What the cells that were run use of what transformers 5 removed, renamed or changed."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.errors import TfdiagError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

if TYPE_CHECKING:
    from tfdiag_ipython.migrate import Migration

SENTENCE = "The program is written for transformers 4."


class MigrationProbe(Probe):
    """Reads the cells that were run for what transformers 5 removed, renamed or changed (``%tfdiag migrate`` asks it).

    Facts: ``title`` (how much there is), ``uses`` (where, and what with its edit), ``safe`` (the labels of cells that the edits change which
    mean the same and which the loaded release takes), ``unsafe`` (those that all edits change, where there are more). Source: the cells'
    text, resolved by :mod:`tfdiag_ipython.migrate`, and the classes of the variables that exist; nothing is run.
    """

    name: ClassVar[str] = "migration"
    deep: ClassVar[bool] = True

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return self.ask("", scene)

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        if not scene.cells:
            return Evidence(missing="no cell was run yet")
        try:
            found = migration_of(scene)
        except TfdiagError as error:
            return Evidence(missing=str(error))
        cells = found.cells
        from tfdiag_ipython.migrate import summary

        release = loaded_release(scene)
        safe, both = found.sources(release=release), found.sources(unsafe=True, release=release)
        uses = tuple(
            (f"{cells[use.place.cell].label}, line {use.place.line}", f"{use.title} → {use.edit}")
            for use in found.findings
        )
        facts = {
            "title": summary(found.findings),
            "uses": uses,
            "safe": tuple(cells[index].label for index in sorted(safe)),
            "unsafe": tuple(cells[index].label for index in sorted(both)) if both != safe else (),
        }
        seen = tuple(Observation(*use) for use in uses)
        finding = Failure.from_finding(self.name, SENTENCE, facts) if found.findings else None
        return Evidence(MappingProxyType(facts), seen, finding=finding)


def migration_of(scene: Scene) -> Migration:
    """What is to be migrated in the newest version of each cell that was run; raises ``InputError`` where that is too much."""
    from tfdiag_ipython.migrate import migrate

    newest = {cell.id or cell.source: cell for cell in scene.cells}
    cells = sorted(newest.values(), key=lambda cell: cell.number)
    return migrate(cells, _live_kinds(scene), release=loaded_release(scene))


def _live_kinds(scene: Scene) -> dict[str, str]:
    """The kind of each variable that holds an object of Transformers."""
    from tfdiag_ipython.migrate.calls import kind_of_live

    found = {
        name: kind_of_live({base.__name__: str(base.__module__) for base in type(value).__mro__})
        for name, value in list(scene.namespace.items())
        if not name.startswith("_")
    }
    return {name: kind for name, kind in found.items() if kind}


def loaded_release(scene: Scene) -> str:
    """The version of transformers in this process; empty where it is not loaded."""
    return str(getattr(scene.module("transformers"), "__version__", ""))
