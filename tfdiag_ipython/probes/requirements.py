"""Which of the installed packages' own requirements are broken by what is installed beside them."""

from __future__ import annotations

import importlib.metadata
import re
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.package_versions import installed_version

FAMILY = [
    "transformers",
    "huggingface-hub",
    "tokenizers",
    "safetensors",
    "accelerate",
    "peft",
    "datasets",
    "trl",
    "diffusers",
    "sentence-transformers",
    "evaluate",
    "optimum",
    "timm",
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
]
"""Distributions that are asked what they need, and about which."""
_PACKAGE = re.compile(r"[/\\](?:site|dist)-packages[/\\](\w+)[/\\.]")


class RequirementsProbe(Probe):
    """The requirements of the packages of the family on each other, held against what is installed.

    It looks at the package whose file raised and at the one that the message names. Facts: ``broken`` (mappings with ``package``, ``version``, ``needs``, ``wanted`` = a version specifier, ``found`` = the installed
    version), ``asking`` (distribution-like name of the package whose file raised). Sources:
    ``Requires-Dist`` in the installed metadata, without extras; the frames' files.
    """

    name: ClassVar[str] = "requirements"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        if not scene.live:
            return Evidence(missing="stored text tells nothing about what is installed")
        asking = _asking(failure)
        if asking not in FAMILY:
            return Evidence(missing="no package of the family asked for the name")
        broken: list[dict[str, str]] = []
        told = failure.says(r"(?:from|module|module named) '?(\w+)")
        for package in dict.fromkeys((asking, told[1].replace("_", "-") if told else asking)):
            scene.deadline.check()
            broken += _broken(package)
        facts = {"broken": tuple(broken), "asking": asking}
        seen = tuple(
            Observation(
                f"{one['package']} {one['version']} needs",
                f"{one['needs']}{one['wanted']}, here is {one['found']}",
                "metadata",
            )
            for one in broken
        )
        return Evidence(MappingProxyType(facts), seen)


def _broken(package: str) -> list[dict[str, str]]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    found: list[dict[str, str]] = []
    try:
        lines: Any = importlib.metadata.requires(package) or ()
        version = installed_version(package)
    except Exception:  # not installed, or its metadata is broken
        return []
    for line in lines:
        if "extra" in line or not any(line.lower().replace("_", "-").startswith(name) for name in FAMILY):
            continue
        try:
            need = Requirement(line)
            name = need.name.lower().replace("_", "-")
            here = installed_version(name) if name in FAMILY else ""
            if (
                (need.marker is None or need.marker.evaluate())
                and here
                and not need.specifier.contains(here, prereleases=True)
            ):
                wanted = str(need.specifier)
                found.append({"package": package, "version": version, "needs": name, "wanted": wanted, "found": here})
        except (InvalidRequirement, InvalidVersion):
            continue
    return found


def _asking(failure: Failure) -> str:
    """The installed package in whose file the failing import stands; empty where it is the person's own."""
    for raised in failure.chain:
        for frame in reversed(raised.frames):
            if frame.file.startswith("<frozen"):
                continue
            told = _PACKAGE.search(frame.file)
            return told[1].lower().replace("_", "-") if told else _beside(frame.file)
    return ""


def _beside(file: str) -> str:
    """The package's name where the file lies in a folder called so (an editable installation, ``pip --target``)."""
    folders = re.split(r"[/\\]", file.lower().replace("_", "-"))
    return next((name for name in reversed(folders[:-1]) if name in FAMILY), "")
