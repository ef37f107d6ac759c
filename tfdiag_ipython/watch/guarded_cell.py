"""The index guard over one cell, whether torch is loaded already or by that cell."""

from __future__ import annotations

import contextlib
from types import ModuleType

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.watch.imports import after_import
from tfdiag_ipython.watch.index_guard import IndexGuard


class GuardedCell:
    """Guards from ``start`` to ``stop``. What it stops raises in the cell, so it has nothing of its own to report."""

    def __init__(self) -> None:
        self._guard = IndexGuard()
        self._undo = contextlib.ExitStack()

    @property
    def watched(self) -> str:
        """What was watched, with what could not be."""
        left_out = f", but not in {self._guard.left_out}" if self._guard.unchecked else ""
        return f"indices ({self._guard.checked:,} checked{left_out})"

    def start(self) -> None:
        self._undo.enter_context(after_import("torch", self._enter))

    def _enter(self, torch: ModuleType) -> None:
        self._guard.__enter__()

    def stop(self, scene: Scene) -> list[Failure]:
        self._undo.close()
        self._guard.leave()
        return []

    def answers(self, finding: Failure) -> bool:
        return False
