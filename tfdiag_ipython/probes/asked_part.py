"""Whether the part of a checkpoint that was asked for (``subfolder=``, ``variant=``) is there, and which parts are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.model_folder import folder_of

MOST = 200
"""Entries of a folder that are looked at."""
_WEIGHTS = re.compile(
    r"(?:diffusion_)?(?:pytorch_)?(?:model|weights)(?:\.(?P<variant>[\w-]+?))?(?:-\d{5}-of-\d{5})?\.(?:safetensors|bin)(?:\.index(?:\.[\w-]+)?\.json)?"
)
_MARKS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "model_index.json")
"""Files by which a subfolder is a part that can be loaded."""


class AskedPartProbe(Probe):
    """The folder or cached repository given to ``from_pretrained`` with ``subfolder=`` or ``variant=``.

    Facts: ``place`` (as given), ``local`` (a folder of this machine's, not a part of a repository that happens to be cached), ``subfolder``
    and ``variant`` (empty: not asked for), ``absent`` (``subfolder``, ``variant`` or empty), ``subfolders`` and ``variants`` (those that are
    there; the variant ``""`` has no name), ``whole`` (there is a model in the folder itself). Source: transformers' `modeling_utils.py`,
    `_add_variant`.
    """

    name: ClassVar[str] = "asked-part"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        given, subfolder, variant = _asked(scene)
        if not (subfolder or variant):
            return Evidence(missing="no part is asked for in the frames of this traceback")
        try:
            folder = folder_of(scene, given)
            if folder is None:
                return Evidence(missing=f"`{given[:100]}` is neither a folder on this machine nor in the Hub's cache")
            facts = _facts(folder, subfolder, variant)
        except (OSError, ValueError) as error:
            return Evidence(missing=f"`{given[:100]}` cannot be read ({getattr(error, 'strerror', None) or error})")
        facts |= {"place": given, "local": Path(given).is_dir()}
        seen = [Observation("subfolders", ", ".join(facts["subfolders"]) or "none", given)] if subfolder else []
        if variant:
            told = ", ".join(name or "without a name" for name in facts["variants"])
            seen.append(Observation("variants of the weights", told or "none", given))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _asked(scene: Scene) -> tuple[str, str, str]:
    """What was to be loaded, and the subfolder and the variant of it."""
    given = subfolder = variant = ""
    for frame in scene.find_frames("from_pretrained"):
        values: Mapping[str, Any] = frame.locals
        place, keywords = values.get("pretrained_model_name_or_path"), values.get("kwargs")
        if not isinstance(place, (str, Path)) or not str(place):
            continue
        more = keywords if type(keywords) is dict else {}
        given = given or str(place)
        subfolder = subfolder or _text(values.get("subfolder") or more.get("subfolder"))
        variant = variant or _text(values.get("variant") or more.get("variant"))
    return given, subfolder, variant


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _facts(folder: Path, subfolder: str, variant: str) -> dict[str, Any]:
    inside = folder / subfolder if subfolder else folder
    outer = [entry for entry, _ in zip(sorted(folder.iterdir()), range(MOST), strict=False)]
    parts = tuple(entry.name for entry in outer if entry.is_dir() and any((entry / mark).is_file() for mark in _MARKS))
    files = sorted(inside.iterdir())[:MOST] if inside.is_dir() else []
    variants = {found["variant"] or "" for entry in files if (found := _WEIGHTS.fullmatch(entry.name))}
    absent = ""
    if subfolder and not any((inside / mark).is_file() for mark in _MARKS):
        absent = "subfolder"
    elif variant and variant not in variants and variants:
        absent = "variant"
    return {
        "subfolder": subfolder,
        "variant": variant,
        "absent": absent,
        "subfolders": parts,
        "variants": tuple(sorted(variants)),
        "whole": any((folder / mark).is_file() for mark in _MARKS),
    }
