"""What the rules about missing names share: the name, the module, the versions, and which of them has to speak."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.data import table
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.installed_symbols import LIBRARIES, imported_from, wanted
from tfdiag_ipython.probes.nearest import Guess, guess
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit

_OTHER_FRAMEWORK = re.compile(r"^(?P<framework>TF|Flax)(?P<plain>[A-Z]\w+)")
_FEATURE_EXTRACTOR = re.compile(r"^(?P<family>\w+)FeatureExtractor(?:Fast)?$")
_ONE_ATTENTION = "One attention class serves all implementations now; `attn_implementation=` picks one of them."
_HF_CLASS = re.compile(
    r"^(?=\w{1,120}$)(?:Auto(?:Model|Tokenizer|Config|Processor)\w*|\w+For(?:CausalLM|MaskedLM|ConditionalGeneration|"
    r"\w+Classification|QuestionAnswering|PreTraining)|"
    r"\w*(?:Bert|GPT2|T5|Llama)\w*(?:Model|Tokenizer|TokenizerFast|Config))$"
)


@dataclass(frozen=True)
class Wanted:
    """A name that a library lacks."""

    symbol: str
    module: str
    version: str = ""

    @property
    def library(self) -> str:
        return self.module.split(".")[0] or "transformers"

    @property
    def told(self) -> str:
        """The library and its version, as titles name it."""
        return f"{self.library} {self.version}".strip()


@dataclass(frozen=True)
class Removal:
    """What became of a name: the module and name that replace it (empty: nothing does), and what differs."""

    gone: str = ""
    new: str = ""
    module: str = "transformers"
    note: str = ""
    other_framework: str = ""
    pattern: bool = False  # the successor's name is derived, not listed
    calls_differ: bool = False

    @property
    def target(self) -> str:
        return self.new if self.module == "transformers" else f"{self.module}.{self.new}"


def read(failure: Failure, hit: Hit) -> Wanted | None:
    """The name and its module; ``None`` where it belongs to no library that tfdiag speaks of."""
    symbol, module = wanted(hit.groups)
    module = module or imported_from(failure, symbol)
    if not module and (
        symbol in table("symbols")["removed"] or _OTHER_FRAMEWORK.match(symbol) or _HF_CLASS.match(symbol)
    ):
        module = "transformers"  # old Pythons do not name the module; these names are nobody else's
    if not re.fullmatch(rf"(?:{LIBRARIES})(?:\.\w+)*", module) or symbol.startswith("__"):
        return None  # `__path__` is asked of what is no package, by Python itself
    version = failure.versions.get(module.split(".")[0], "")
    return Wanted(symbol, module, version)


def removal(name: Wanted) -> Removal | None:
    """What is known to have become of this name."""
    known: Mapping[str, Any] = table("symbols")["removed"].get(name.symbol, {})
    if known and known.get("library", "transformers") == name.library:
        return Removal(
            gone=known.get("gone", "") or release_of("gone", name.symbol) or release_of("inner_gone", name.symbol),
            new=known.get("new", ""),
            module=known.get("module", "transformers"),
            note=known.get("note", ""),
            calls_differ=bool(known.get("calls_differ")),
        )
    if name.library != "transformers":
        return None
    other = _OTHER_FRAMEWORK.match(name.symbol)
    if other:
        framework = "TensorFlow" if other["framework"] == "TF" else "Flax"
        return Removal(gone="5.0", new=other["plain"], other_framework=framework, pattern=True)
    gone = release_of("gone", name.symbol)
    extractor = _FEATURE_EXTRACTOR.match(name.symbol)
    if extractor and gone:
        processor = f"{extractor['family']}ImageProcessor"
        if release_of("first", processor) and not release_of("gone", processor):
            return Removal(gone=gone, new=processor, pattern=True)
    if gone:
        return Removal(gone=gone)
    gone = release_of("attention_gone", name.symbol)
    if gone:
        return Removal(gone=gone, note=_ONE_ATTENTION)
    gone = release_of("inner_gone", name.symbol) if not name.module.startswith("transformers.models.") else ""
    return Removal(gone=gone) if gone else None


def still_to_come(name: Wanted, known: Removal, version: str) -> bool:
    """Whether the release asked is older than the one that removed the name: then it is missing for another reason.

    A class of another framework is missing there because the framework is.
    """
    return not known.other_framework and older(version, known.gone or "0")


@functools.cache
def _releases(kind: str) -> Mapping[str, str]:
    found: Mapping[str, str] = table("transformers_names")[kind]
    return {name: release for release, names in found.items() for name in names.split()}


def release_of(kind: str, symbol: str) -> str:
    """The release of transformers that the history names for this: ``kind`` is a key of ``transformers_names.json``.

    ``first`` and ``gone``: of exported names; ``attention_gone``: of attention classes; ``inner_first`` and ``inner_gone``: of names
    that are taken from a module inside; ``types_first``: of model types; ``modules_first``: of modules. Empty where the table has none.
    """
    return _releases(kind).get(symbol, "")


@functools.cache
def exported() -> frozenset[str]:
    """Every name that a release of transformers exports, from 4.18 on."""
    return frozenset(table("transformers_names")["oldest"].split()) | _releases("first").keys()


@functools.lru_cache(maxsize=32)  # two rules ask the same of one failure
def meant(symbol: str, version: str) -> Guess:
    """By the history alone: what was meant by a name that no release of transformers exports, of the names of this release
    (where it is not known, of all).
    """
    if symbol in exported():
        return Guess()
    gone = _releases("gone")
    return guess(symbol, (name for name in exported() if not version or name not in gone or older(version, gone[name])))


@functools.lru_cache(maxsize=32)
def later(symbol: str, version: str) -> str:
    """The name, this one or the one that it must be a slip of, that transformers exports only since a later release; empty if none."""
    known = _releases("first")
    near = guess(symbol, known)
    name = symbol if symbol in known else near.names[0] if near.sure else ""
    return name if name and older(version, known[name]) else ""


def older(version: str, other: str) -> bool:
    """Whether the first version is known and before the second."""
    from packaging.version import InvalidVersion, Version

    try:
        return bool(version) and Version(version.replace("x", "0").rstrip(".")) < Version(other)
    except InvalidVersion:
        return False


def stale(evidence: Mapping[str, Evidence], library: str) -> tuple[str, str] | None:
    """Loaded and installed version where this process holds another version than is installed."""
    seen = evidence.get(PackageVersionsProbe.name)
    if not seen or library not in seen["stale"]:
        return None
    return seen["packages"][library]["loaded"], seen["packages"][library]["installed"]


def in_cell(failure: Failure, symbol: str) -> bool:
    """Whether a cell of the person's spells this name where it failed (an imported file cannot be edited from here)."""
    lines = (frame.source for frame in failure.frames if frame.file.startswith("<cell"))
    spelt_there = any(re.search(rf"\b{re.escape(symbol)}\b", text) for text in (failure.source, *lines))
    return spelt_there or not failure.source


def culprit(failure: Failure) -> str:
    """The file whose import failed, where that is not the person's cell; in words for the title's end, else empty."""
    frames = [frame for frame in failure.frames if frame.function == "<module>" and frame.file.endswith(".py")]
    outside = [frame for frame in frames if not re.search(r"[/\\](?:transformers|importlib)[/\\]", frame.file)]
    return outside[-1].file if outside else ""
