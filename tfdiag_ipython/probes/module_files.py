"""Whether the loaded library has the file of a module, and of the module that replaced it."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import ClassVar

from tfdiag_ipython.data import moved_to
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene


class ModuleFilesProbe(Probe):
    """The module that an ``ImportError`` asked for, and its successor in tfdiag's table, looked up among the library's
    files.

    Facts: ``old`` and ``new`` (dotted names), ``there`` (whether the file of the new one exists). Source: the folder of
    the loaded package; nothing is imported.
    """

    name: ClassVar[str] = "module-files"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        old = next((error.name for error in _errors(scene) if isinstance(error, ImportError) and error.name), "")
        new = moved_to(old) or ""
        folder = os.path.dirname(getattr(scene.module(new.partition(".")[0]), "__file__", "") or "")
        if not new or not folder:
            return Evidence(missing="no module is known to replace it, or the library is not loaded")
        path = os.path.join(folder, *new.split(".")[1:])
        there = os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))
        seen = Observation(f"File of `{new}`", "there" if there else "missing", "the folder of the loaded library")
        return Evidence(MappingProxyType({"old": old, "new": new, "there": there}), (seen,))


def _errors(scene: Scene) -> list[BaseException]:
    error, found = scene.exception, list[BaseException]()
    while error is not None and len(found) < 8:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
