"""Which file of the Hub's cache was being read when it failed, whether its bytes are what its name says, and what deleting it frees."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Deadline, Evidence, Probe, Scene
from tfdiag_ipython.probes.weights_folder import examine
from tfdiag_ipython.sizes import file_size

ENTRY = re.compile(
    r"(?P<repository>.*[/\\](?:model|dataset|space)s--(?P<repo>[^/\\]+))[/\\]snapshots[/\\][0-9a-f]{40}[/\\](?P<name>.+)"
)
LOCALS = (
    "checkpoint_file",
    "checkpoint_files",
    "shard_file",
    "file",
    "filename",
    "resolved_config_file",
    "resolved_generation_config_file",
    "fast_tokenizer_file",
    "tokenizer_file",
    "vocab_file",
    "json_file",
)
"""Locals of the libraries' loaders that name the files being read."""
LIBRARY = re.compile(r"[/\\](?:transformers|safetensors|torch|huggingface_hub)[/\\]")
MOST_FILES, MOST_SNAPSHOTS, MOST_JSON = 24, 200, 2_000_000
WEIGHTS = (".safetensors", ".bin", ".h5", ".pt", ".msgpack")


class HubEntryProbe(Probe):
    """Looks at the cached files that the failing frames and the message name.

    Facts: ``path`` (in the snapshot), ``name``, ``repo``, ``size``, ``problem``, ``blob`` (the file itself, where the path is a link),
    ``links`` (all paths in snapshots that lead to it), ``offline`` (the library asks nobody), ``local_only`` (nor does this call),
    ``as_folder`` (the program loads the snapshot's folder, not the repository by its name). The Hub's cache layout is that of
    huggingface_hub's "Understand caching" page.
    """

    name: ClassVar[str] = "hub-entry"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        for path in islice(_paths(failure, scene), MOST_FILES):
            scene.deadline.check()
            found = ENTRY.fullmatch(path)
            problem = problem_of(Path(path)) if found else ""
            if found and problem:
                facts = _facts(path, found, problem, scene.deadline)
                constants: Any = scene.module("huggingface_hub.constants")
                facts["offline"] = bool(getattr(constants, "HF_HUB_OFFLINE", False))
                facts["local_only"] = any(_local_only(frame.locals) for frame in scene.frames)
                facts["as_folder"] = _given_as_folder(scene)
                told = f"{file_size(facts['size'])}: {problem}"
                return Evidence(MappingProxyType(facts), (Observation(facts["name"], told, facts["blob"]),))
        return Evidence(missing="no damaged file of the Hub's cache is named in the failing frames")


def problem_of(path: Path) -> str:
    """Why this file cannot be what its name says; empty where nothing is wrong with it or it was not looked into."""
    if not path.is_file():
        return ""
    if path.name.endswith(WEIGHTS):
        seen = examine(path)
        return seen.problem or (f"a {seen.kind}" if seen.kind in {"Git LFS pointer", "web page"} else "")
    if path.suffix != ".json":
        return ""
    try:
        size = path.stat().st_size
        text = path.read_bytes()[:MOST_JSON] if size <= MOST_JSON else b""
    except OSError as error:
        return str(error.strerror or error)
    if not size:
        return "it holds nothing"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if text.lstrip()[:1] == b"<":
        return "a web page"
    try:
        json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        return f"no JSON ({str(error)[:80]})"
    return ""


def _facts(path: str, found: re.Match[str], problem: str, deadline: Deadline) -> dict[str, Any]:
    blob = os.path.realpath(path)
    inside = os.path.realpath(found["repository"]) + os.sep
    if not blob.startswith(inside):
        blob = path  # a link that leads out of the cache: only the link is the cache's
    links = [path]
    if blob != os.path.realpath(os.path.dirname(path)) + os.sep + os.path.basename(path):
        snapshots = os.path.join(found["repository"], "snapshots")
        with os.scandir(snapshots) as entries:
            for entry in islice(entries, MOST_SNAPSHOTS):
                deadline.check()
                other = os.path.join(entry.path, found["name"])
                if other != path and os.path.islink(other) and os.path.realpath(other) == blob:
                    links.append(other)
    return {
        "path": path,
        "name": found["name"],
        "repo": found["repo"].replace("--", "/"),
        "size": os.path.getsize(path),
        "problem": problem,
        "blob": blob,
        "links": tuple(links),
    }


def _local_only(values: Mapping[str, Any]) -> bool:
    inner = [more for name in ("kwargs", "hub_kwargs", "model_kwargs") if type(more := values.get(name)) is dict]
    return any(place.get("local_files_only") is True for place in (values, *inner))


def _given_as_folder(scene: Scene) -> bool:
    names = (frame.locals.get("pretrained_model_name_or_path") for frame in scene.find_frames("from_pretrained"))
    return any(isinstance(name, (str, os.PathLike)) and os.path.isdir(name) for name in names)


def _paths(failure: Failure, scene: Scene) -> Iterator[str]:
    for raised in failure.chain:
        yield from re.findall(r"'([^'\n]{1,600}[/\\]snapshots[/\\][^'\n]{1,300})'", raised.message)
    for frame in reversed(list(scene.frames)):
        if not LIBRARY.search(frame.file):
            continue
        seen: Mapping[str, Any] = frame.locals
        for name in LOCALS:
            value = seen.get(name)
            for one in value[:MOST_FILES] if isinstance(value, (list, tuple)) else (value,):
                if isinstance(one, str) and "snapshots" in one:
                    yield one
