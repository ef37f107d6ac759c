"""What the folder holds that a model, tokenizer or configuration was to be loaded from: which kind of checkpoint it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

SHOWN = 8
MOST_ENTRIES = 2_000
"""Entries of a folder that are listed: a quick look must stay quick."""
MOST_BYTES = 1_000_000
"""Configuration files larger than this are not read."""


class ModelFolderProbe(Probe):
    """The local folder given to ``from_pretrained``.

    Facts: ``path``, ``files`` (names, sorted), ``config`` (whether there is a ``config.json``), ``model_type`` (its value, or empty),
    ``adapter`` (whether it is a PEFT adapter), ``base`` (the adapter's base model, or empty), ``gguf`` (names), ``nested`` (subfolders
    that hold a ``config.json``).
    """

    name: ClassVar[str] = "model-folder"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        given = next(
            (
                value
                for frame in scene.frames
                if (value := frame.locals.get("pretrained_model_name_or_path")) is not None
            ),
            None,
        )
        if not isinstance(given, (str, Path)) or not str(given):
            return Evidence(missing="no folder is given in the frames of this traceback")
        folder = Path(given)
        try:
            if not folder.is_dir():
                return Evidence(missing=f"`{given}` is no folder on this machine")
            entries = sorted(entry for entry, _ in zip(folder.iterdir(), range(MOST_ENTRIES), strict=False))
            scene.deadline.check()
            facts = _facts(str(given), entries)
        except OSError as error:
            return Evidence(missing=f"`{given}` cannot be read ({error.strerror})")
        return Evidence(MappingProxyType(facts), _observations(facts))


def _facts(path: str, entries: list[Path]) -> dict[str, Any]:
    names = [entry.name for entry in entries]
    config = _read(entries, "config.json")
    adapter = _read(entries, "adapter_config.json")
    return {
        "path": path,
        "files": tuple(names),
        "config": "config.json" in names,
        "model_type": str(config.get("model_type") or ""),
        "adapter": "adapter_config.json" in names,
        "base": str(adapter.get("base_model_name_or_path") or ""),
        "gguf": tuple(name for name in names if name.endswith(".gguf")),
        "nested": tuple(entry.name for entry in entries if (entry / "config.json").is_file()) or _snapshots(entries),
    }


def _snapshots(entries: list[Path]) -> tuple[str, ...]:
    """The revisions of a repository's folder in the Hub's cache, which holds its files under ``snapshots/<commit>``."""
    found = next((entry for entry in entries if entry.name == "snapshots" and entry.is_dir()), None)
    inner = sorted(found.iterdir())[:MOST_ENTRIES] if found is not None else []
    return tuple(f"snapshots/{entry.name}" for entry in inner if (entry / "config.json").is_file())


def _read(entries: list[Path], name: str) -> dict[str, Any]:
    """A JSON object of the folder; empty when it is not there or is none."""
    file = next((entry for entry in entries if entry.name == name), None)
    if file is None or file.stat().st_size > MOST_BYTES:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _observations(facts: dict[str, Any]) -> tuple[Observation, ...]:
    more = f" and {len(facts['files']) - SHOWN} more" if len(facts["files"]) > SHOWN else ""
    seen = [Observation("files", (", ".join(facts["files"][:SHOWN]) or "none") + more, facts["path"])]
    if facts["config"]:
        seen.append(Observation("model_type", facts["model_type"] or "none", f"{facts['path']}/config.json"))
    if facts["base"]:
        seen.append(Observation("base model", facts["base"], f"{facts['path']}/adapter_config.json"))
    return tuple(seen)
