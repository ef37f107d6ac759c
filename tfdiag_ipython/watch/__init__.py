"""Findings without exceptions: what `%%tfdiag` watches while a cell runs."""

from __future__ import annotations

from typing import Protocol

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.watch.hub_silence import HubSilence
from tfdiag_ipython.watch.library_warnings import LibraryWarnings


class Watcher(Protocol):
    """Watches one cell: ``start`` before it runs, ``stop`` after it ended, however it ended.

    ``stop`` takes everything back that ``start`` installed and returns what was found, oldest first. ``watched`` says in a few words
    what is watched, as the line after a clean cell puts it.
    """

    watched: str

    def start(self) -> None: ...

    def stop(self) -> list[Failure]: ...


WATCHERS: dict[str, type[Watcher]] = {"warnings": LibraryWarnings, "hub": HubSilence}
"""The switchboard: the name that ``%%tfdiag --watch NAME`` takes, and the watcher behind it."""
