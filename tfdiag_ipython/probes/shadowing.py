"""Whether a file of the person's stands in front of a library: a module loaded from, or found in, the working folder."""

from __future__ import annotations

import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.paths import from_here
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.installed_symbols import LIBRARIES, WANTED, names_of, wanted
from tfdiag_ipython.probes.nearest import guess

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

NO_METADATA = re.compile(rf"No package metadata was found for (?P<library>{LIBRARIES})\b")


class ShadowingProbe(Probe):
    """Files called like a library (or a standard module that libraries import) where Python finds them first.

    Facts: ``files`` (import name → path of the person's file that is loaded, or was while the error was raised), ``loaded`` (import name →
    file or folder of a loaded module that is called like a library and is not it), ``found`` (the library asked for → the person's file
    that Python finds under its name), ``behind`` (names of ``loaded`` whose library is installed farther back on Python's path), ``theirs``
    (those of them whose library knows the name that was asked for), ``own`` (the name in the person's file that the one asked for is, or
    nearly is). Source: ``__file__``, ``__path__`` and ``__version__`` of the loaded modules, the frames' files, and ``sys.path``.
    """

    name: ClassVar[str] = "shadowing"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        used = {frame.file for raised in failure.chain for frame in raised.frames if _own(frame.file)}
        files: dict[str, str] = {}
        for name in sorted({*LIBRARIES.split("|"), *SUSPECTS}):
            scene.deadline.check()
            loaded = str(getattr(scene.module(name), "__file__", "") or "")
            at_hand = {loaded} if _own(loaded) and Path(loaded).parent in {Path.cwd(), *map(_folder, used)} else used
            path = next((file for file in sorted(at_hand) if _called(file, name)), "")
            if path:
                files[name] = from_here(path)
        places = {name: path for name in sorted(LIBRARIES.split("|")) if (path := _impostor(scene.module(name)))}
        symbol = _asked(failure)
        behind = {name: text for name, path in places.items() if (text := _library_behind(name, path)) is not None}
        own = {name: near for name in places if symbol and (near := _nearest_own(scene.module(name), symbol))}
        told = failure.says(NO_METADATA)
        found = _found(told["library"]) if told and scene.live else ""
        facts = {
            "files": files,
            "loaded": {name: from_here(path) for name, path in places.items()},
            "found": {told["library"]: from_here(found)} if told and found else {},
            "behind": tuple(behind),
            "theirs": tuple(name for name, text in behind.items() if symbol and re.search(rf"\b{symbol}\b", text)),
            "own": own,
        }
        seen = tuple(
            Observation(f"`import {name}` finds", path, "loaded modules, Python's path and frames")
            for name, path in (files | facts["loaded"] | facts["found"]).items()  # type: ignore[operator]
        )
        return Evidence(MappingProxyType(facts), seen)


def _asked(failure: Failure) -> str:
    found = failure.says(WANTED)
    return wanted(found.groupdict())[0] if found else ""


def _folder(file: str) -> Path:
    return Path(file).parent


def _called(file: str, name: str) -> bool:
    """Whether a file is the module of this name."""
    path = Path(file)
    return path.stem == name or (path.name == "__init__.py" and path.parent.name == name)


def _library_behind(name: str, path: str) -> str | None:
    """The text of the library's own file that Python would find without the person's; ``None`` where it is not installed."""
    inner = Path(path).name in {"__init__.py", name}  # a package, or a folder without that file
    place = Path(path).parent.parent if path.endswith("__init__.py") else Path(path).parent
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != place.resolve()]
    spec = PathFinder.find_spec(name, others)
    if spec is None or spec.origin is None or (inner and Path(spec.origin) == Path(path)):
        return None
    try:
        return Path(spec.origin).read_text("utf-8", errors="replace")[:1_000_000]
    except OSError:
        return ""


def _found(name: str) -> str:
    """The person's file that Python finds under a library's name; empty where it finds the library, or nothing."""
    spec = PathFinder.find_spec(name)
    origin = str(spec.origin or "") if spec is not None else ""
    return origin if _own(origin) else ""


def _nearest_own(module: ModuleType | None, symbol: str) -> str:
    """The name of the person's own file that this is, or nearly is."""
    return next(iter(guess(symbol, names_of(module)).names), "") if module is not None else ""


def _impostor(module: ModuleType | None) -> str:
    """Where a module that only has a library's name was loaded from; empty where it is the library or no module."""
    if not isinstance(module, ModuleType):
        return ""
    known = vars(module)
    spec = known.get("__spec__")
    lazy = known.get("_objects")  # where transformers' and huggingface_hub's lazy modules keep it
    version = known.get("__version__") or (lazy.get("__version__") if isinstance(lazy, dict) else None)
    file, folders = known.get("__file__"), known.get("__path__")
    whole = folders is not None  # each of these libraries is a package
    if (isinstance(version, str) and whole) or type(module) is not ModuleType or getattr(spec, "_initializing", False):
        return ""  # the library, wherever it lies; or half loaded, before it has told its version
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
