"""What a loader cannot do without, and which of it a snapshot in the Hub's cache lacks. Names and two small files are read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tfdiag_ipython.probe import LiveFrame

CONFIG, WEIGHTS, TOKENIZER, PROCESSOR = "config.json", "weights", "tokenizer files", "processor files"
"""What may be lacking, in words; a file that was asked for is lacking by its name."""
_TOKENIZER = re.compile(
    r"tokenizer\.(?:json|model)|vocab\.txt|\w+\.(?:model|spm|bpe|tiktoken)|sentencepiece\S*|tekken\.json"
)
_PROCESSOR = re.compile(r"(?:pre|video_pre)?processor_config\.json")
_ANY_WEIGHTS = re.compile(r".+\.(?:safetensors|bin|h5|msgpack|gguf|onnx|pt|pth|ckpt|index)")
_OTHERWISE = re.compile("CTC|Wav2Vec2|ByT5|Canine|Perceiver")
"""Tokenizers that need no vocabulary, or ``vocab.json`` alone."""
_STEMS = {"tf": "tf_model", "flax": "flax_model", "": "(?:model|pytorch_model|adapter_model)"}
_SUFFIXES = {"tf": ("h5",), "flax": ("msgpack",), "": ("safetensors", "bin")}
OPTIONS = ("subfolder", "variant", "use_safetensors", "gguf_file", "trust_remote_code")
"""Arguments of a loader that say which files of the repository it wants."""
_KEYWORDS = ("kwargs", "hub_kwargs", "model_kwargs")


def options(loaders: Iterable[LiveFrame]) -> dict[str, Any]:
    """The values of ``OPTIONS`` that were passed, and the ``framework`` of the class that loads (``tf``, ``flax``, empty: PyTorch)."""
    found: dict[str, Any] = {"framework": ""}
    for frame in loaders:
        seen = frame.locals
        more = [inner for name in _KEYWORDS if type(inner := seen.get(name)) is dict]
        for name in OPTIONS:
            value = next((place[name] for place in (seen, *more) if place.get(name) not in (None, "")), None)
            if isinstance(value, (str, bool)):
                found.setdefault(name, value)
        owner = getattr(seen.get("cls"), "__name__", "")
        framework = next((prefix.lower() for prefix in ("TF", "Flax") if owner.startswith(prefix)), "")
        found["framework"] = found["framework"] or framework
    return found


def lacking(facts: Mapping[str, Any], holds: Collection[str], snapshot: str) -> tuple[str, ...]:
    """What this loader needs of the snapshot and does not find, given the names of the files that it ``holds``."""
    kind, files, wanted = str(facts["kind"]), tuple(facts["files"]), facts.get("options", {})
    folder = str(wanted.get("subfolder", "")).strip("/")
    if folder:
        holds = [name[len(folder) + 1 :] for name in holds if name.startswith(f"{folder}/")]
        files = tuple(name.removeprefix(f"{folder}/") for name in files)
        snapshot = os.path.join(snapshot, folder)
    if kind == "snapshot":
        unweighted = CONFIG in holds and not any(_ANY_WEIGHTS.fullmatch(name) for name in holds)
        return (WEIGHTS,) if unweighted and facts["repo_type"] == "model" else ("file",) * (not holds)
    if kind == "tokenizer":
        return () if _tokenizer(holds, snapshot) else (TOKENIZER,)
    if kind == "processor":
        return () if any(_PROCESSOR.fullmatch(name) for name in holds) else (PROCESSOR,)
    if kind in {"model", "pipeline"}:
        lacks = [CONFIG] if CONFIG not in holds else []
        lacks += [] if _weights(holds, snapshot, wanted) else [WEIGHTS]
        if wanted.get("trust_remote_code") is True and not lacks:
            lacks += sorted(_code(os.path.join(snapshot, CONFIG)) - set(holds))
        if (
            kind == "pipeline"
            and not _tokenizer(holds, snapshot)
            and not any(_PROCESSOR.fullmatch(name) for name in holds)
        ):
            lacks.append(f"{TOKENIZER} or {PROCESSOR}")
        return tuple(lacks)
    files = files or ((CONFIG,) if kind == "configuration" else ("file",))
    return tuple(name for name in files if name not in holds)


def _tokenizer(holds: Collection[str], snapshot: str) -> bool:
    if any(_TOKENIZER.fullmatch(name) for name in holds) or {"vocab.json", "merges.txt"} <= set(holds):
        return True
    owner = _json(os.path.join(snapshot, "tokenizer_config.json")).get("tokenizer_class")
    return isinstance(owner, str) and bool(_OTHERWISE.search(owner))


def _weights(holds: Collection[str], snapshot: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the weights are there whole: in one file, or every shard of an index."""
    if wanted.get("gguf_file"):
        return wanted["gguf_file"] in holds
    framework, variant = str(wanted.get("framework", "")), str(wanted.get("variant", ""))
    suffixes = _SUFFIXES[framework][:1] if wanted.get("use_safetensors") is True else _SUFFIXES[framework]
    name = f"{_STEMS[framework]}{re.escape(f'.{variant}') if variant else ''}"
    if any(re.fullmatch(rf"{name}\.(?:{'|'.join(suffixes)})", held) for held in holds):
        return True
    end = f".index.{variant}.json" if variant else ".index.json"
    indices = [held for held in holds if any(held.endswith(f".{suffix}{end}") for suffix in suffixes)]
    shards = [_shards(os.path.join(snapshot, index)) for index in indices]
    return any(one and one <= set(holds) for one in shards)


def _shards(index: str) -> set[str]:
    told = _json(index)
    mapped = told.get("weight_map")
    return set(mapped.values()) if isinstance(mapped, dict) else set()


def _code(config: str) -> set[str]:
    """The modules of the repository itself that its configuration names for the classes to load."""
    mapped = _json(config).get("auto_map")
    values = mapped.values() if isinstance(mapped, dict) else ()
    return {f"{value.partition('.')[0]}.py" for value in values if isinstance(value, str) and "--" not in value}


def _json(path: str, limit: int = 20_000_000) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            told = json.loads(file.read(limit))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
