"""Whether the loaded library has the file of a module, of the module that replaced it, and the names that are asked of it."""

from __future__ import annotations

import ast
import os
import re
from types import MappingProxyType
from typing import ClassVar

from tfdiag_ipython.data import moved_to
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.installed_symbols import WANTED, text_of, wanted

MISSING = re.compile(r"No module named ['\"‘`]?(?P<module>(?:transformers|torch|huggingface_hub)\.[\w.]+)")


def asked_module(failure: Failure) -> str:
    """The module that is missing: an import names it, or a name or attribute of its package is asked for."""
    found = failure.says(MISSING)
    if found:
        return found["module"].rstrip(".")
    named = failure.says(WANTED)
    symbol, owner = wanted(named.groupdict()) if named else ("", "")
    return f"{owner}.{symbol}" if owner in {"transformers", "torch"} else ""


class ModuleFilesProbe(Probe):
    """The module that a failed import or attribute asked for, and its successor in tfdiag's table, looked up among the library's files.

    Facts: ``old`` and ``new`` (dotted names), ``there`` (whether the file of the new one exists), ``lacking`` (names that the failing
    import takes from the old one and that the text of the new one does not have). Source: the folder of the loaded package; nothing is
    imported.
    """

    name: ClassVar[str] = "module-files"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        old = asked_module(failure)
        new = moved_to(old) or ""
        folder = os.path.dirname(getattr(scene.module(new.partition(".")[0]), "__file__", "") or "")
        if not new or not folder:
            return Evidence(missing="no module is known to replace it, or the library is not loaded")
        text = text_of(folder, new.partition(".")[2])
        there = text is not None
        names = _names_from(old, failure)
        lacking = tuple(name for name in names if there and not re.search(rf"\b{name}\b", text or ""))
        seen = [Observation(f"File of `{new}`", "there" if there else "missing", "the folder of the loaded library")]
        if lacking:
            seen.append(Observation("It has not", ", ".join(lacking), f"the text of {new}"))
        return Evidence(MappingProxyType({"old": old, "new": new, "there": there, "lacking": lacking}), tuple(seen))


def _names_from(module: str, failure: Failure) -> list[str]:
    """The names that a ``from module import …`` of the failing lines, or of the cell, takes."""
    for source in (*(frame.source for frame in reversed(failure.frames)), failure.source):
        try:
            tree = ast.parse(source.strip())
        except (SyntaxError, ValueError, RecursionError):
            continue
        found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == module]
        if found:
            return [alias.name for node in found for alias in node.names if alias.name != "*"]
    return []
