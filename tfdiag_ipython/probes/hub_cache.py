"""What was asked of the Hub, what the local cache holds of it, and which switches the library and the environment have."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.addresses import hide_logins, without_login
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.paths import from_here
from tfdiag_ipython.probe import Deadline, Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes._hub_needs import lacking, options

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
_LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\](?!(?:transformers|huggingface_hub|tfdiag_ipython)[/\\])")
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
MOST_FILES, MOST_REPOSITORIES, MOST_SNAPSHOTS = 500, 5000, 10


class HubCacheProbe(Probe):
    """Looks into the cache folder of the repository that was asked for, without the network.

    Facts: ``repo``, ``repo_type``, ``files`` (asked for), ``revision``, ``kind`` (``tokenizer``, ``model``, …: what is being loaded),
    ``local_only``, ``cache`` (the folder), ``refs`` (name to commit), ``snapshots`` (commits), ``commit`` (that the revision leads to),
    ``holds`` (its files), ``lacks`` (what this kind needs and the commit has not), ``absent`` (files that the Hub is known not to have at
    that commit), ``complete`` (nothing is lacking), ``others`` (other cached revisions, the likeliest first: a branch, a tag or a commit,
    and whether it has all that this kind needs), ``options`` (the loader's arguments that say which files), ``nearest`` (cached repository
    of a similar name),
    ``nearest_folder`` (folder here of a similar name), ``path`` (``repo`` is a path, not a repository's name), ``folder`` and ``file`` (it is one here), ``cwd``, ``endpoint``,
    ``endpoint_passed`` (the call gave it), ``offline`` (as the library holds it; ``None``: not loaded), ``variables`` (offline variables that are set), ``proxies`` (names of the
    proxy variables that are set), ``proxy`` (the one that applies to the endpoint), ``unread_proxy`` (the first whose value is no address), ``token`` (where a login is: ``argument``, a variable or ``file``).
    """

    name: ClassVar[str] = "hub-cache"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        constants: Any = scene.module("huggingface_hub.constants")
        if constants is None:
            return Evidence(missing="huggingface_hub is not loaded")
        facts = _switches(constants)
        frames = list(scene.frames)
        facts |= asked(frames, str(constants.HF_HUB_CACHE)) | _passed(frames, facts["endpoint"])
        facts["token"] = "argument" if _token_passed(frames) else facts["token"]
        scene.deadline.check()
        if facts["repo"]:
            facts |= cached(facts, scene.deadline)
        return Evidence(MappingProxyType(facts), _observations(facts))


def _switches(constants: Any) -> dict[str, Any]:
    endpoint = without_login(str(getattr(constants, "ENDPOINT", "")))
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    proxies = [name for both in names[:3] for name in (both, both.lower()) if os.environ.get(name)]
    return {
        "endpoint": endpoint,
        "offline": bool(getattr(constants, "HF_HUB_OFFLINE", False)),
        "variables": {name: value for name in OFFLINE_VARIABLES if (value := os.environ.get(name, "")).upper() in TRUE},
        "proxies": tuple(name for both in names for name in (both, both.lower()) if os.environ.get(name)),
        "proxy": proxy_variable(endpoint),
        "unread_proxy": next((name for name in proxies if not readable_proxy(os.environ[name])), ""),
        "token": _token(str(getattr(constants, "HF_TOKEN_PATH", ""))),
    }


def _token(path: str) -> str:
    """Where the library finds a login: a variable's name or `file`; the token itself is not read."""
    named = (name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name))
    return next(named, "file" if path and os.path.isfile(path) else "")


def _token_passed(frames: Iterable[LiveFrame]) -> bool:
    """Whether a loader was given a token; only that it is a text is looked at."""
    loaders = {*ASKED_BY, *LOADERS, "login", "_login", "whoami"}
    return any(isinstance(frame.locals.get("token"), str) for frame in frames if frame.function in loaders)


def proxy_variable(endpoint: str) -> str:
    """The name of the variable whose proxy a request to this address takes; empty when it goes straight there."""
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    parts = urlsplit(endpoint)
    if not parts.hostname or proxy_bypass_environment(parts.hostname):
        return ""
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((name for low in names for name in (low.upper(), low) if os.environ.get(name)), "")


def readable_proxy(value: str) -> bool:
    """Whether a proxy variable's value names a way to connect, a host, and a port that is a number."""
    from urllib.parse import urlsplit

    address = urlsplit(value if "//" in value else f"http://{value}")
    try:
        known = re.fullmatch(r"https?|socks\d?[ah]?", address.scheme)
        return bool(known and address.hostname) and address.port != 0
    except ValueError:
        return False


def asked(frames: Iterable[LiveFrame], default_cache: str) -> dict[str, Any]:
    """What the innermost frame that names a repository asked for, and what the outermost loader wanted it for."""
    callers = list(frames)
    frames = [frame for frame in callers if frame.function in {*ASKED_BY, *LOADERS}]
    asking = [frame for frame in frames if frame.function in ASKED_BY]
    found = next((frame for frame in reversed(asking) if frame.function.startswith("cached_file")), None)
    found = found or (asking[-1] if asking else next((frame for frame in reversed(frames) if _place(frame)), None))
    if found is None:
        return {"repo": ""}
    seen = found.locals
    repo = _place(found)
    names = seen.get("filenames") or seen.get("filename") or ()
    files = (names,) if isinstance(names, str) else tuple(name for name in islice(names, 20) if isinstance(name, str))
    folder = _text(seen.get("subfolder"))
    first = callers.index(frames[0])
    for_another = first > 0 and bool(_LIBRARY.search(callers[first - 1].file))
    return {
        "repo": repo[:300],
        "repo_type": _text(seen.get("repo_type")) or ("dataset" if found.function == "dataset_info" else "model"),
        "files": tuple(f"{folder}/{name}" if folder and "/" not in name else name for name in files),
        "revision": _text(seen.get("revision")) or "main",
        "local_only": bool(seen.get("local_files_only")),
        "cache": _text(seen.get("cache_dir")) or default_cache,
        # another library has a use for the repository of its own, and goes on to load more of it
        "kind": "snapshot" if for_another else _kind(frames, repo),
        "options": options(frame for frame in frames if frame.function in LOADERS),
        "path": not REPOSITORY.fullmatch(repo) or repo.startswith("."),
        "cwd": os.getcwd(),
        "cache_told": from_here(_text(seen.get("cache_dir")) or default_cache),
        "folder": os.path.isdir(os.path.expanduser(repo)),
        "file": os.path.isfile(os.path.expanduser(repo)),
    }


def _passed(frames: Iterable[LiveFrame], endpoint: str) -> dict[str, Any]:
    """The address that the innermost call was given, or the client (``HfApi``) on which it was made, where that is another one."""
    for frame in reversed(list(frames)):
        if frame.function in ASKED_BY:
            client = frame.locals.get("self")
            own = vars(client).get("endpoint") if type(client).__name__ == "HfApi" else None
            given = without_login(_text(frame.locals.get("endpoint")) or _text(own)).rstrip("/")
            if given:
                passed = {"endpoint": given, "endpoint_passed": True, "proxy": proxy_variable(given)}
                return passed if given != endpoint.rstrip("/") else {}
    return {}


def _place(frame: LiveFrame) -> str:
    """The repository or folder that a frame names."""
    names = ("path_or_repo_id", "repo_id", "pretrained_model_name_or_path")
    return hide_logins(next((told for name in names if (told := _text(frame.locals.get(name)))), ""))


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
        "lacks": (),
        "absent": (),
        "complete": False,
        "others": (),
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
    holds, lacks = _content(folder, commit, facts) if commit else ((), ())
    deadline.check()
    others = _others(folder, revision, commit, refs, snapshots)
    nearest = "" if snapshots else _nearest(cache, prefix, repo)
    return {
        "refs": refs,
        "snapshots": snapshots,
        "commit": commit,
        "holds": holds,
        "lacks": lacks,
        "absent": tuple(_names(os.path.join(folder, ".no_exist", commit))[:MOST_FILES]) if commit else (),
        "complete": bool(commit) and not lacks,
        "others": tuple((name, not _content(folder, one, facts, deadline)[1]) for name, one in others),
        "nearest": nearest,
        "nearest_folder": "" if snapshots or facts.get("folder") else _nearest_folder(repo),
    }


def _content(
    folder: str, commit: str, facts: Mapping[str, Any], deadline: Deadline | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files of one snapshot, and what it lacks for this loader."""
    if deadline is not None:
        deadline.check()
    snapshot = os.path.join(folder, "snapshots", commit)
    holds = tuple(_files(snapshot, facts["files"]))
    return holds, lacking(facts, holds, snapshot)


def _others(
    folder: str, revision: str, commit: str, refs: Mapping[str, str], snapshots: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Cached revisions beside the one asked for, with their commits: the nearest in name, ``main``, the rest, then bare commits by age."""
    near = difflib.get_close_matches(revision, refs, n=1)
    names = dict.fromkeys([*near, *(name for name in refs if name == "main"), *refs])
    found = [(name, refs[name]) for name in names if refs[name] in snapshots and refs[name] != commit]
    bare = [one for one in snapshots[:MOST_FILES] if one not in {commit, *(known for _, known in found)}]
    bare.sort(key=lambda one: _changed(os.path.join(folder, "snapshots", one)), reverse=True)
    return [*found, *((one, one) for one in bare if COMMIT.fullmatch(one))][:MOST_SNAPSHOTS]


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


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


def _nearest(cache: str, prefix: str, repo: str) -> str:
    """The cached repository whose name is most like this one; a folder without a snapshot holds nothing."""
    known = {name[len(prefix) :].replace("--", "/").lower(): name for name in _names(cache, prefix)}
    near = difflib.get_close_matches(repo.lower(), known, n=5, cutoff=0.75)
    if not near and "/" not in repo:  # the owner was left out
        near = [name for name in known if name.rpartition("/")[2] == repo.lower()]
    full = (known[name] for name in near[:5] if any(_names(os.path.join(cache, known[name], "snapshots"))))
    return next(full, "")[len(prefix) :].replace("--", "/")


def _nearest_folder(place: str) -> str:
    """The folder here whose path is spelt nearly like this one, part by part; of a file, its own."""
    if os.path.isfile(os.path.expanduser(place)):
        return os.path.dirname(place)
    parts = os.path.expanduser(place).rstrip("/\\").split("/")
    if len(parts) > 20 or os.path.isdir("/".join(parts)):
        return ""
    path = ""
    for number, part in enumerate(parts):
        before = f"{path}/" if number else ""
        if part in {"", ".", ".."} or os.path.isdir(before + part):
            path = before + part
            continue
        here = [one for one in _names(before or ".") if os.path.isdir(before + one)]
        near = difflib.get_close_matches(part, here, n=1, cutoff=0.75)
        if not near:
            return ""
        path = before + near[0]
    return path


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    told_by = "the failing frame" if facts.get("endpoint_passed") else "huggingface_hub.constants.ENDPOINT"
    seen = [Observation("address of the Hub", str(facts["endpoint"]), told_by)]
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
