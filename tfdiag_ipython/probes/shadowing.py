"""Whether a file of the person's stands in front of a library: a module loaded from, or found in, the working folder."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
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

    Facts: ``files`` (import name → path of the person's file). Source: ``__file__`` of the loaded modules, the frames' files, and
    the names of the files beside them and in the working folder.
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
                files[name] = loaded
                continue
            found = next(
                (folder / f"{name}.py" for folder in sorted(folders) if (folder / f"{name}.py").is_file()), None
            )
            if found is not None:
                files[name] = str(found)
        seen = tuple(
            Observation(f"`import {name}` finds", path, "working folder and frames") for name, path in files.items()
        )
        return Evidence(MappingProxyType({"files": files}), seen)


def _own(file: str) -> bool:
    """Whether a file is the person's: on disk, and neither installed nor part of Python."""
    return (
        file.endswith(".py")
        and not re.search(r"[/\\](?:site|dist)-packages[/\\]|[/\\]python\d[\d.]*[/\\]", file)
        and "<" not in file
    )
