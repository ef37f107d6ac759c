"""What was asked of the Hub, what the local cache holds of it, and which switches the library and the environment have."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.paths import from_here
from tfdiag_ipython.probe import Deadline, Evidence, LiveFrame, Probe, Scene

ASKED_BY = (
    "cached_files",
    "cached_file",
    "list_repo_templates",
    "hf_hub_download",
    "snapshot_download",
    "list_repo_tree",
    "list_repo_files",
    "repo_info",
    "model_info",
    "dataset_info",
)
"""Functions of transformers and huggingface_hub whose locals name the repository."""
LOADERS = ("pipeline", "from_pretrained", "hf_hub_download", "snapshot_download")
TRUE = frozenset({"1", "ON", "YES", "TRUE"})
"""Values that switch a variable on (``huggingface_hub.constants.ENV_VARS_TRUE_VALUES``)."""
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
REPOSITORY = re.compile(r"[\w.-]{1,96}(?:/[\w.-]{1,96})?")
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKENIZER = re.compile(
    r"tokenizer\.(?:json|model)|vocab\.(?:json|txt)|\w+\.(?:model|spm|bpe|tiktoken)|sentencepiece\S*"
)
PROCESSOR = re.compile(r"(?:pre|video_pre)?processor_config\.json")
WEIGHTS = re.compile(r"(?:model|pytorch_model|adapter_model)\.(?:safetensors|bin)")
FIRST = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "preprocessor_config.json",
)
"""Files looked for by name, so that they are found in a snapshot of any size."""
MOST_FILES, MOST_REPOSITORIES = 500, 5000


class HubCacheProbe(Probe):
    """Looks into the cache folder of the repository that was asked for, without the network.

    Facts: ``repo``, ``repo_type``, ``files`` (asked for), ``revision``, ``kind`` (``tokenizer``, ``model``, …: what is being loaded),
    ``local_only``, ``cache`` (the folder), ``refs`` (name to commit), ``snapshots`` (commits), ``commit`` (that the revision leads to),
    ``holds`` (its files), ``complete`` (all that this kind needs is there), ``nearest`` (cached repository of a similar name),
    ``nearest_folder`` (folder here of a similar name), ``path`` (``repo`` is a path, not a repository's name), ``folder`` (it is a folder here), ``cwd``, ``endpoint``,
    ``offline`` (as the library holds it; ``None``: not loaded), ``variables`` (offline variables that are set), ``proxies`` (names of the
    proxy variables that are set), ``proxy`` (the one that applies to the endpoint), ``token`` (where a login is: a variable or ``file``).
    """

    name: ClassVar[str] = "hub-cache"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        constants: Any = scene.module("huggingface_hub.constants")
        if constants is None:
            return Evidence(missing="huggingface_hub is not loaded")
        facts = _switches(constants)
        facts |= asked(scene.frames, str(constants.HF_HUB_CACHE))
        scene.deadline.check()
        if facts["repo"]:
            facts |= cached(facts, scene.deadline)
        return Evidence(MappingProxyType(facts), _observations(facts))


def _switches(constants: Any) -> dict[str, Any]:
    endpoint = _without_login(str(getattr(constants, "ENDPOINT", "")))
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    return {
        "endpoint": endpoint,
        "offline": bool(getattr(constants, "HF_HUB_OFFLINE", False)),
        "variables": {name: value for name in OFFLINE_VARIABLES if (value := os.environ.get(name, "")).upper() in TRUE},
        "proxies": tuple(name for both in names for name in (both, both.lower()) if os.environ.get(name)),
        "proxy": proxy_variable(endpoint),
        "token": _token(str(getattr(constants, "HF_TOKEN_PATH", ""))),
    }


def _token(path: str) -> str:
    """Where the library finds a login: a variable's name or `file`; the token itself is not read."""
    named = (name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name))
    return next(named, "file" if path and os.path.isfile(path) else "")


def proxy_variable(endpoint: str) -> str:
    """The name of the variable whose proxy a request to this address takes; empty when it goes straight there."""
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(endpoint)
    if not parts.hostname or proxy_bypass_environment(parts.hostname):
        return ""
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((name for low in names for name in (low.upper(), low) if os.environ.get(name)), "")


def asked(frames: Iterable[LiveFrame], default_cache: str) -> dict[str, Any]:
    """What the innermost frame that names a repository asked for, and what the outermost loader wanted it for."""
    frames = [frame for frame in frames if frame.function in {*ASKED_BY, *LOADERS}]
    asking = [frame for frame in frames if frame.function in ASKED_BY]
    found = next((frame for frame in reversed(asking) if frame.function.startswith("cached_file")), None)
    found = found or (asking[-1] if asking else None)
    if found is None:
        return {"repo": ""}
    seen = found.locals
    repo = _text(seen.get("path_or_repo_id")) or _text(seen.get("repo_id"))
    names = seen.get("filenames") or seen.get("filename") or ()
    files = (names,) if isinstance(names, str) else tuple(name for name in islice(names, 20) if isinstance(name, str))
    folder = _text(seen.get("subfolder"))
    return {
        "repo": repo[:300],
        "repo_type": _text(seen.get("repo_type")) or ("dataset" if found.function == "dataset_info" else "model"),
        "files": tuple(f"{folder}/{name}" if folder and "/" not in name else name for name in files),
        "revision": _text(seen.get("revision")) or "main",
        "local_only": bool(seen.get("local_files_only")),
        "cache": _text(seen.get("cache_dir")) or default_cache,
        "kind": _kind(frames, repo),
        "path": not REPOSITORY.fullmatch(repo) or repo.startswith("."),
        "cwd": os.getcwd(),
        "cache_told": from_here(_text(seen.get("cache_dir")) or default_cache),
        **({"endpoint": _without_login(_text(seen.get("endpoint")))} if _text(seen.get("endpoint")) else {}),
        "folder": os.path.isdir(os.path.expanduser(repo)),
    }


def _without_login(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)


def _text(value: object) -> str:
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str) else ""


def _kind(frames: list[LiveFrame], repo: str) -> str:
    """What the outermost loader of this repository makes of it."""
    for frame in frames:
        if frame.function not in LOADERS:
            continue
        place = frame.file.replace("\\", "/").rpartition("/")[2]
        if frame.function != "from_pretrained":
            return {"pipeline": "pipeline", "snapshot_download": "snapshot"}.get(frame.function, "file")
        name = frame.locals.get("pretrained_model_name_or_path")
        if isinstance(name, str) and name != repo:
            continue
        for part, kind in (
            ("tokenization", "tokenizer"),
            ("configuration", "configuration"),
            ("auto_factory", "model"),
            ("modeling", "model"),
            ("processing", "processor"),
            ("feature_extraction", "processor"),
        ):
            if part in place:
                return kind
    return "file"


def cached(facts: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
    """The cache's facts about ``repo``; nothing but names and one index file is read."""
    cache, repo = str(facts["cache"]), str(facts["repo"])
    prefix = f"{facts['repo_type']}s--"
    folder = os.path.join(cache, prefix + repo.replace("/", "--"))
    none = {
        "refs": {},
        "snapshots": (),
        "commit": "",
        "holds": (),
        "complete": False,
        "nearest": "",
        "nearest_folder": "",
    }
    if facts["path"]:
        return none | {"nearest_folder": _nearest_folder(repo)}
    snapshots = tuple(_names(os.path.join(folder, "snapshots")))
    refs = {name: _read(os.path.join(folder, "refs", name)).strip() for name in _names(os.path.join(folder, "refs"))}
    deadline.check()
    revision = str(facts["revision"])
    commit = refs.get(revision, revision if COMMIT.fullmatch(revision) else "")
    commit = commit if commit in snapshots else ""
    snapshot = os.path.join(folder, "snapshots", commit)
    holds = tuple(_files(snapshot, facts["files"])) if commit else ()
    deadline.check()
    nearest = "" if snapshots else _nearest(repo, (name[len(prefix) :] for name in _names(cache, prefix)))
    return {
        "refs": refs,
        "snapshots": snapshots,
        "commit": commit,
        "holds": holds,
        "complete": bool(commit) and _complete(str(facts["kind"]), tuple(facts["files"]), holds, snapshot),
        "nearest": nearest,
        "nearest_folder": _nearest_folder(repo) if not snapshots else "",
    }


def _complete(kind: str, files: tuple[str, ...], holds: tuple[str, ...], snapshot: str) -> bool:
    """Whether the snapshot has what this kind of loader cannot do without."""
    if kind == "snapshot":
        return bool(holds)
    if kind == "tokenizer":
        return any(TOKENIZER.fullmatch(name) for name in holds)
    if kind == "processor":
        return any(PROCESSOR.fullmatch(name) for name in holds)
    if kind == "configuration":
        return bool({"config.json", "params.json"} & set(holds))
    if kind in {"model", "pipeline"}:
        index = next((name for name in holds if name.endswith((".safetensors.index.json", ".bin.index.json"))), "")
        shards = _shards(os.path.join(snapshot, index)) if index else set()
        whole = any(WEIGHTS.fullmatch(name) for name in holds) or bool(shards and shards <= set(holds))
        return whole and "config.json" in holds
    return bool(files) and set(files) <= set(holds)


def _shards(index: str) -> set[str]:
    try:
        return set(json.loads(_read(index, 20_000_000))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _names(folder: str, prefix: str = "") -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in islice(entries, MOST_REPOSITORIES) if entry.name.startswith(prefix)]
    except OSError:
        return []


def _files(snapshot: str, wanted: Iterable[str]) -> list[str]:
    """Names of the files below, one folder deep; a link whose file was deleted does not count."""
    found = [name for name in dict.fromkeys((*wanted, *FIRST)) if os.path.isfile(os.path.join(snapshot, name))]
    for name in _names(snapshot)[:MOST_FILES]:
        path = os.path.join(snapshot, name)
        if os.path.isdir(path):
            found += [
                f"{name}/{inner}" for inner in _names(path)[:MOST_FILES] if os.path.isfile(os.path.join(path, inner))
            ]
        elif os.path.isfile(path):
            found.append(name)
    return sorted(set(found))


def _read(path: str, limit: int = 1000) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(limit)
    except OSError:
        return ""


def _nearest(repo: str, folders: Any) -> str:
    known = {name.replace("--", "/").lower(): name.replace("--", "/") for name in folders}
    near = difflib.get_close_matches(repo.lower(), known, n=1, cutoff=0.75)
    if not near and "/" not in repo:  # the owner was left out
        near = [name for name in known if name.rpartition("/")[2] == repo.lower()]
    return known[near[0]] if near else ""


def _nearest_folder(place: str) -> str:
    """A folder here that is spelt nearly like this path's last part, in the same parent."""
    parent, name = os.path.split(os.path.expanduser(place).rstrip("/\\"))
    if not name or (parent and not os.path.isdir(parent)):
        return ""
    here = [one for one in _names(parent or ".") if os.path.isdir(os.path.join(parent or ".", one))]
    near = difflib.get_close_matches(name, here, n=1, cutoff=0.75)
    return os.path.join(parent, near[0]) if near else ""


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    seen = [Observation("address of the Hub", str(facts["endpoint"]), "huggingface_hub.constants.ENDPOINT")]
    switch = "on" if facts["offline"] else "off"
    variables = ", ".join(f"{name}={value}" for name, value in facts["variables"].items())
    late = " (set after the import: without effect)" if variables and not facts["offline"] else ""
    told = f"{switch} in the library; in the environment: {variables or 'not set'}{late}"
    seen.append(Observation("offline mode", told, "huggingface_hub.constants.HF_HUB_OFFLINE"))
    if facts["proxies"]:
        used = f"{facts['proxy']} applies" if facts["proxy"] else "none applies to this address"
        seen.append(Observation("proxy variables", f"{', '.join(facts['proxies'])}: {used}", "environment"))
    seen.append(
        Observation("login", facts["token"] or "no token found", "environment, huggingface_hub.constants.HF_TOKEN_PATH")
    )
    if not facts["repo"]:
        return tuple(seen)
    asked = f"{', '.join(facts['files'])} of `{facts['repo']}`" if facts["files"] else f"`{facts['repo']}`"
    only = ", local files only" if facts["local_only"] else ""
    seen.append(Observation("asked for", f"{asked}, revision {facts['revision']}{only}", "the failing frame"))
    seen.append(Observation("local cache", _cache_told(facts), str(facts["cache_told"])))
    return tuple(seen)


def _cache_told(facts: Mapping[str, Any]) -> str:
    if facts["commit"]:
        shown = ", ".join(facts["holds"][:12]) + (", …" if len(facts["holds"]) > 12 else "")
        return f"commit {facts['commit'][:8]} with {len(facts['holds'])} file(s): {shown or 'none'}"
    if facts["snapshots"]:
        known = ", ".join(facts["refs"]) or ", ".join(name[:8] for name in facts["snapshots"][:5])
        return f"not revision {facts['revision']}, but {known}"
    near = f"; it has `{facts['nearest']}`" if facts["nearest"] else ""
    return f"nothing of `{facts['repo']}`{near}"
