"""Which version of a package this process has loaded, and which one is installed where a new process would look."""

from __future__ import annotations

import importlib.metadata
import re
from types import MappingProxyType
from typing import ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.install import REQUIREMENTS
from tfdiag_ipython.probe import Evidence, Probe, Scene

ALWAYS = ("transformers", "torch", "tokenizers", "huggingface_hub", "numpy")


class PackageVersionsProbe(Probe):
    """Loaded against installed versions of the main libraries and of every package of tfdiag's table that the message
    names.

    Facts: ``packages`` (import name → ``{"loaded", "installed"}``, empty strings where there is none), ``stale`` (those
    loaded in another version than installed), ``required`` (import name → the releases that the loaded transformers
    takes, ``">=1.1.0"``). Sources: ``__version__`` of the loaded module, ``importlib.metadata``, and of transformers
    (4.57 and 5.23) ``dependency_versions_table.deps`` and the ``…_MIN_VERSION`` of ``utils.import_utils``.
    """

    name: ClassVar[str] = "package-versions"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        text = " ".join(raised.message for raised in failure.chain).lower()
        named = [name for name, spec in REQUIREMENTS.items() if _mentions(text, name, spec)]
        packages: dict[str, dict[str, str]] = {}
        for name in dict.fromkeys((*ALWAYS, *named)):
            scene.deadline.check()
            loaded = getattr(scene.module(name), "__version__", "")
            packages[name] = {"loaded": str(loaded or ""), "installed": installed_version(REQUIREMENTS.get(name, name))}
        stale = tuple(
            name
            for name, seen in packages.items()
            if seen["loaded"] and seen["installed"] and _public(seen["loaded"]) != _public(seen["installed"])
        )
        seen = tuple(
            Observation(name, _words(packages[name]), "importlib.metadata and the loaded module")
            for name in dict.fromkeys(("transformers", *stale, *named))
        )
        required = {name: spec for name in named if (spec := _required(scene, name))}
        facts = {"packages": packages, "stale": stale, "required": required}
        return Evidence(MappingProxyType(facts), seen)


def installed_version(distribution: str) -> str:
    """The version that a new process would import; empty when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except Exception:  # broken metadata reads as not installed
        return ""


def _required(scene: Scene, module: str) -> str:
    """Which releases of this package the loaded transformers takes, as a version specifier; empty when it does not
    say.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    least = getattr(scene.module("transformers.utils.import_utils"), f"{module.upper()}_MIN_VERSION", "")
    if isinstance(least, str) and re.fullmatch(r"\d+(?:\.\d+)*", least):
        return f">={least}"
    known = getattr(scene.module("transformers.dependency_versions_table"), "deps", {})
    line = next((known[name] for name in (REQUIREMENTS[module], module) if name in known), "")
    try:
        return str(Requirement(line).specifier) if line else ""
    except InvalidRequirement:
        return ""


def _mentions(text: str, module: str, distribution: str) -> bool:
    words = {module.lower(), distribution.lower(), distribution.lower().replace("-", "_")}
    return any(re.search(rf"(?<![\w./]){re.escape(word)}(?![\w/])", text) for word in words)


def _public(version: str) -> str:
    return version.partition("+")[0]


def _words(seen: dict[str, str]) -> str:
    if not seen["installed"]:
        return f"{seen['loaded']} loaded, no metadata" if seen["loaded"] else "not installed"
    return f"{seen['installed']} installed, " + (f"{seen['loaded']} loaded" if seen["loaded"] else "not loaded")
