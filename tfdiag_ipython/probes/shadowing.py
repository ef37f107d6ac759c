"""Whether a file of the person's stands in front of a library: a module loaded from, or found in, the working folder."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.paths import from_here
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.installed_symbols import LIBRARIES

SUSPECTS = (
    "code",
    "tokenize",
    "token",
    "types",
    "random",
    "queue",
    "copy",
    "inspect",
    "logging",
    "typing",
    "dataclasses",
    "packaging",
)
"""Standard modules that transformers or torch import early, and that people name their own files after."""


class ShadowingProbe(Probe):
    """Files called like a library (or a standard module that libraries import) where Python finds them first.

    Facts: ``files`` (import name → path of the person's file that is loaded, or would be), ``loaded`` (import name → file or folder of a
    loaded module that is called like a library and is not it: it has no ``__version__``, as all of them do, and lies in none of Python's
    own folders). Source: ``__file__``, ``__path__`` and ``__version__`` of the loaded modules, the frames' files, and the names of the
    files beside them and in the working folder.
    """

    name: ClassVar[str] = "shadowing"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        names = {*LIBRARIES.split("|"), *SUSPECTS}
        folders = {Path.cwd()}
        for raised in failure.chain:
            folders |= {Path(frame.file).parent for frame in raised.frames if _own(frame.file)}
        files: dict[str, str] = {}
        for name in sorted(names):
            scene.deadline.check()
            loaded = str(getattr(scene.module(name), "__file__", "") or "")
            if loaded and _own(loaded) and Path(loaded).parent in folders:
                files[name] = from_here(loaded)
                continue
            found = next(
                (folder / f"{name}.py" for folder in sorted(folders) if (folder / f"{name}.py").is_file()), None
            )
            if found is not None:
                files[name] = from_here(str(found))
        impostors = {
            name: from_here(path) for name in sorted(LIBRARIES.split("|")) if (path := _impostor(scene.module(name)))
        }
        seen = tuple(
            Observation(f"`import {name}` finds", path, "loaded modules, working folder and frames")
            for name, path in (files | impostors).items()
        )
        return Evidence(MappingProxyType({"files": files, "loaded": impostors}), seen)


def _impostor(module: ModuleType | None) -> str:
    """Where a module that only has a library's name was loaded from; empty where it is the library or no module."""
    if not isinstance(module, ModuleType):
        return ""
    known = vars(module)
    spec = known.get("__spec__")
    lazy = known.get("_objects")  # where transformers' and huggingface_hub's lazy modules keep it
    version = known.get("__version__") or (lazy.get("__version__") if isinstance(lazy, dict) else None)
    if isinstance(version, str) or type(module) is not ModuleType or getattr(spec, "_initializing", False):
        return ""  # the library, wherever it lies; or half loaded, before it has told its version
    file, folders = known.get("__file__"), known.get("__path__")
    if isinstance(file, str):
        return file if _own(file) else ""
    namespace = (
        folders is not None and type(folders).__name__ == "_NamespacePath"
    )  # importlib's own: a folder without __init__.py
    place = next((str(folder) for folder in folders), "") if folders is not None and namespace else ""
    return place if place and _own(place + "/__init__.py") else ""


def _own(file: str) -> bool:
    """Whether a file is the person's: on disk, and neither installed nor part of Python."""
    return (
        file.endswith(".py")
        and not re.search(r"[/\\](?:site|dist)-packages[/\\]|[/\\]python\d[\d.]*[/\\]", file)
        and "<" not in file
    )
