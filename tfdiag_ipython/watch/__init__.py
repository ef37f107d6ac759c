"""Findings without exceptions: what `%%tfdiag` watches while a cell runs."""

from __future__ import annotations

from typing import Protocol

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.watch.guarded_cell import GuardedCell
from tfdiag_ipython.watch.hub_silence import HubSilence
from tfdiag_ipython.watch.library_warnings import LibraryWarnings
from tfdiag_ipython.watch.padding import PaddingWatch


class Watcher(Protocol):
    """Watches one cell: ``start`` before it runs, ``stop`` after it ended, however it ended.

    ``stop`` takes everything back that ``start`` installed and returns what was found, oldest first; of a cell that failed it gets
    an empty scene. ``watched`` says in a few words what was watched, as the line after a clean cell puts it.
    """

    @property
    def watched(self) -> str: ...

    def start(self) -> None: ...

    def stop(self, scene: Scene) -> list[Failure]: ...

    def answers(self, finding: Failure) -> bool:
        """Whether this watch, after ``stop``, knows better than another watch's finding, which is then dropped."""


WATCHERS: dict[str, type[Watcher]] = {"warnings": LibraryWarnings, "hub": HubSilence, "padding": PaddingWatch}
"""The switchboard: the name that ``%%tfdiag --watch NAME`` takes, and the watcher behind it."""
GUARD = GuardedCell
"""What ``%%tfdiag --guard`` adds: it may stop the cell, so it is never on by itself."""
