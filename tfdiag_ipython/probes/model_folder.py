"""What the folder or cached repository holds that was given to a loader: which library's checkpoint it is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.auto_classes import accepting_classes, model_type_of
from tfdiag_ipython.probes.hub_cache import COMMIT, REPOSITORY

SHOWN = 8
MOST_ENTRIES = 2_000
"""Entries of a folder that are listed: a quick look must stay quick."""
MOST_BYTES = 1_000_000
"""Configuration files larger than this are not read."""
_TORCH = re.compile(r"(?:model|pytorch_model|adapter_model)[\w.-]*\.(?:safetensors|bin)(?:\.index\.json)?")
_TENSORFLOW = re.compile(
    r"\Asaved_model\.pb\Z|\.(?:h5|keras)\Z|\.ckpt[^/]*\.(?:index|meta)\Z|\.index\Z|\.data-\d+-of-\d+\Z"
)
_TELLING = (
    "config.json",
    "adapter_config.json",
    "model_index.json",
    "modules.json",
    "config_sentence_transformers.json",
    "openvino_model.xml",
    "model.safetensors",
    "pytorch_model.bin",
    "snapshots",
)
_SINGLE = {".gguf": "gguf-file", ".onnx": "onnx-file", ".safetensors": "weights-file", ".bin": "weights-file"}
_SINGLE |= dict.fromkeys((".pt", ".pth", ".ckpt"), "weights-file") | {".json": "config-file"}


class ModelFolderProbe(Probe):
    """The local folder, cached repository or single file given to ``from_pretrained`` or ``pipeline``.

    Facts: ``path`` (as given), ``shown`` (its end, fit for a title), ``asked`` (the class or function that was called), ``kind`` (``adapter``, ``diffusers``,
    ``diffusers-part``, ``sentence-transformers``, ``timm``, ``gguf``, ``onnx``, ``openvino``, ``weights-only``, ``tensorflow``, ``model``, ``other``,
    ``empty``, for one file ``gguf-file``, ``onnx-file``, ``weights-file``, ``config-file``), ``files`` (names, sorted), ``dangling`` (links to nothing), ``config`` (whether there is a
    ``config.json``), ``model_type``, ``architectures``, ``known_as`` (the model type of the first architecture, where the file names none),
    ``concrete`` (the class that ``asked`` loads for it), ``saved_by`` (its ``transformers_version``), ``made_of`` (the class or
    architecture that another library's files name), ``auto_map`` (auto class → code), ``code`` (Python file → lines), ``base`` (an
    adapter's base model), ``gguf`` and ``onnx`` (names), ``gguf_problem`` (why the first of them cannot be loaded here; empty: it can), ``nested`` (subfolders that hold a ``config.json``). Sources: the files' names
    and the JSON in them; a cached repository is read where huggingface_hub puts it (``models--owner--name/snapshots/commit``).
    """

    name: ClassVar[str] = "model-folder"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        given, asked, revision = _asked(scene)
        if not given:
            return Evidence(missing="no folder is given in the frames of this traceback")
        try:
            path = Path(given)
            if path.is_file():
                return _one_file(given, asked, path)
            folder = folder_of(scene, given, revision)
            if folder is None:
                return Evidence(missing=f"`{given[:100]}` is neither a folder on this machine nor in the Hub's cache")
            entries = _entries(folder)
            scene.deadline.check()
            facts = {"path": given, "shown": _shown(given), "asked": asked, **_facts(entries)}
            if facts["architectures"] and not facts["model_type"]:
                facts["known_as"] = model_type_of(scene, facts["architectures"][0])
                facts["concrete"] = accepting_classes(scene, facts["known_as"]).get(asked, "")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            return Evidence(missing=f"`{given[:100]}` cannot be read ({getattr(error, 'strerror', None) or error})")
        return Evidence(MappingProxyType(facts), _observations(facts))


def _asked(scene: Scene) -> tuple[str, str, str]:
    """What was to be loaded, the class or function that the person called for it, and the revision."""
    given = asked = revision = ""
    for frame in scene.frames:
        values: Mapping[str, Any] = frame.locals if frame.function in {"from_pretrained", "pipeline"} else {}
        place = values.get("pretrained_model_name_or_path", values.get("model") if values else None)
        if not isinstance(place, (str, Path)) or not str(place):
            continue
        given = given or str(place)
        kind = values.get("cls")
        asked = asked or (kind.__name__ if isinstance(kind, type) else frame.function)
        keywords = values.get("kwargs")
        found = values.get("revision") or (keywords.get("revision") if type(keywords) is dict else None)
        revision = revision or (found if isinstance(found, str) else "")
    return given, asked, revision


def folder_of(scene: Scene, given: str, revision: str = "") -> Path | None:
    """The folder itself, or the newest known one of a repository in the Hub's cache; ``None`` where there is neither."""
    path = Path(given)
    return path if path.is_dir() else _snapshot(scene, given, revision)


def _snapshot(scene: Scene, repo: str, revision: str) -> Path | None:
    """The newest known folder of a repository in the Hub's cache; ``None`` where there is none."""
    cache = getattr(scene.module("huggingface_hub.constants"), "HF_HUB_CACHE", "")
    if not cache or not REPOSITORY.fullmatch(repo):
        return None
    home = Path(cache) / f"models--{repo.replace('/', '--')}"
    reference = home / "refs" / (revision or "main")
    commit = revision if COMMIT.fullmatch(revision) else ""
    if not commit and reference.is_file() and reference.stat().st_size < 100:
        commit = reference.read_text(encoding="ascii", errors="replace").strip()
    folder = home / "snapshots" / commit
    return folder if COMMIT.fullmatch(commit) and folder.is_dir() else None


def _one_file(given: str, asked: str, path: Path) -> Evidence:
    with path.open("rb") as file:
        head = file.read(4)
    kind = "gguf-file" if head == b"GGUF" else _SINGLE.get(path.suffix.lower(), "other-file")
    facts = {"path": given, "shown": _shown(given), "asked": asked, **_facts([]), "kind": kind, "files": (path.name,)}
    if kind == "gguf-file":
        facts["gguf"] = (path.name,)
        facts["gguf_problem"] = _gguf_problem(path)
    seen = Observation("given", f"one file, which starts with {head!r}", given)
    return Evidence(MappingProxyType(facts), (seen,))


def _gguf_problem(path: Path) -> str:
    """Why transformers would not read this GGUF file: its version, or the package that reads it (transformers: `is_gguf_available`)."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    if head[:4] != b"GGUF" or int.from_bytes(head[4:], "little") not in (2, 3):
        return "the file does not start like GGUF 2 or 3: get it again"
    return "" if find_spec("gguf") else "the package gguf (0.10 or later) is needed and not installed"


def _entries(folder: Path) -> list[Path]:
    """What lies in the folder: of a huge one a part, and always the files that tell whose it is."""
    found = {entry for entry, _ in zip(folder.iterdir(), range(MOST_ENTRIES), strict=False)}
    return sorted(found | {folder / name for name in _TELLING if os.path.lexists(folder / name)})


def _shown(path: str) -> str:
    """The path's end as one line of a title, without characters that steer a terminal or the direction of writing."""
    return "".join(letter if letter.isprintable() else "?" for letter in path)[-90:]


def _facts(entries: list[Path]) -> dict[str, Any]:
    names = [entry.name for entry in entries]
    config, adapter, index = (_read(entries, f"{name}.json") for name in ("config", "adapter_config", "model_index"))
    auto_map, architectures = config.get("auto_map"), config.get("architectures")
    facts = {
        "files": tuple(names),
        "config": "config.json" in names,
        "dangling": tuple(entry.name for entry in entries if entry.is_symlink() and not entry.exists()),
        "model_type": str(config.get("model_type") or "")[:100],
        "architectures": tuple(str(name)[:100] for name in architectures[:8])
        if isinstance(architectures, list)
        else (),
        "known_as": "",
        "concrete": "",
        "saved_by": str(config.get("transformers_version") or "")[:40],
        "made_of": str(index.get("_class_name") or config.get("_class_name") or config.get("architecture") or "")[:100],
        "auto_map": {str(key): str(value) for key, value in auto_map.items()} if isinstance(auto_map, dict) else {},
        "code": {entry.name: _lines(entry) for entry in entries[:MOST_ENTRIES] if entry.suffix == ".py"},
        "base": str(adapter.get("base_model_name_or_path") or "")[:300],
        "gguf": (gguf := tuple(name for name in names if name.endswith(".gguf"))),
        "gguf_problem": _gguf_problem(next(entry for entry in entries if entry.name == gguf[0])) if gguf else "",
        "onnx": tuple(_onnx(entries)),
        "nested": tuple(entry.name for entry in entries if (entry / "config.json").is_file()) or _snapshots(entries),
    }
    return {**facts, "kind": _kind(facts, config, bool(index))}


def _kind(facts: Mapping[str, Any], config: Mapping[str, Any], index: bool) -> str:
    """Whose checkpoint it is, by the file that only this library writes."""
    names = facts["files"]
    torch = any(_TORCH.fullmatch(name) for name in names)
    if "adapter_config.json" in names and not facts["model_type"]:
        return "adapter"
    if index:
        return "diffusers"
    if "_diffusers_version" in config and not facts["model_type"]:
        return "diffusers-part"
    if {"modules.json", "config_sentence_transformers.json"} & set(names) and not facts["model_type"]:
        return "sentence-transformers"
    if isinstance(config.get("architecture"), str) and not facts["model_type"]:
        return "timm"
    for kind, there in (("gguf", facts["gguf"]), ("onnx", facts["onnx"]), ("openvino", "openvino_model.xml" in names)):
        if there and not torch:
            return kind
    if facts["config"]:
        return "model"
    if torch:
        return "weights-only"
    if any(_TENSORFLOW.search(name) for name in names):
        return "tensorflow"
    return "other" if names else "empty"


def _onnx(entries: list[Path]) -> Iterator[str]:
    """ONNX files in the folder and in its ``onnx`` folder, where exporters put them."""
    for entry in entries:
        if entry.suffix == ".onnx":
            yield entry.name
        elif entry.name == "onnx" and entry.is_dir():
            inner = zip(entry.iterdir(), range(MOST_ENTRIES), strict=False)
            yield from sorted(f"onnx/{file.name}" for file, _ in inner if file.suffix == ".onnx")


def _snapshots(entries: list[Path]) -> tuple[str, ...]:
    """The revisions of a repository's folder in the Hub's cache, which holds its files under ``snapshots/<commit>``."""
    found = next((entry for entry in entries if entry.name == "snapshots" and entry.is_dir()), None)
    inner = sorted(found.iterdir())[:MOST_ENTRIES] if found is not None else []
    return tuple(f"snapshots/{entry.name}" for entry in inner if (entry / "config.json").is_file())


def _lines(file: Path) -> int:
    """How long a program file is; 0 where it is too large to be looked at."""
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return 0
    return len(file.read_bytes().splitlines())


def _read(entries: list[Path], name: str) -> dict[str, Any]:
    """A JSON object of the folder; empty when it is not there or is none."""
    file = next((entry for entry in entries if entry.name == name), None)
    if file is None or not file.is_file() or file.stat().st_size > MOST_BYTES:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    more = f" and {len(facts['files']) - SHOWN} more" if len(facts["files"]) > SHOWN else ""
    seen = [Observation("files", (", ".join(facts["files"][:SHOWN]) or "none") + more, facts["path"])]
    if facts["config"]:
        seen.append(Observation("model_type", facts["model_type"] or "none", f"{facts['path']}/config.json"))
    if facts["architectures"]:
        seen.append(Observation("architectures", ", ".join(facts["architectures"]), f"{facts['path']}/config.json"))
    if facts["base"]:
        seen.append(Observation("base model", facts["base"], f"{facts['path']}/adapter_config.json"))
    if facts["auto_map"]:
        told = ", ".join(f"{key}: {value}" for key, value in list(facts["auto_map"].items())[:SHOWN])
        seen.append(Observation("auto_map", told, f"{facts['path']}/config.json"))
    if facts["auto_map"] and facts["code"]:
        told = ", ".join(f"{key} ({value} lines)" for key, value in list(facts["code"].items())[:SHOWN])
        seen.append(Observation("code beside it", told, facts["path"]))
    return tuple(seen)
