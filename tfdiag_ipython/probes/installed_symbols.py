"""Whether the loaded library has the name that was asked for, the nearest names that it has, and what they need."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

from tfdiag_ipython.data import table
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.nearest import guess

LIBRARIES = (
    "transformers|huggingface_hub|tokenizers|accelerate|datasets|safetensors|peft|trl|evaluate|diffusers|optimum|timm"
    "|sentence_transformers|torchvision|torchaudio|torch"
)
"""Import names of the libraries that these rules speak of, as a regular expression."""
_QUOTE = "['\"`‘’]"
WANTED = re.compile(
    rf"cannot import name {_QUOTE}?(?P<symbol>\w+)\b(?!{_QUOTE}? from partially){_QUOTE}?"
    rf"(?: from {_QUOTE}(?P<module>\w+(?:\.\w+)*){_QUOTE}?(?: \((?P<file>[^)\n]{{0,600}})\))?)?"
    rf"|No (?P<package>{LIBRARIES}) attribute (?P<lazy>\w+)"
    rf"|module {_QUOTE}?(?P<owner>(?:{LIBRARIES})(?:\.\w+)*){_QUOTE}? has no attribute {_QUOTE}?(?P<attribute>\w+)"
    rf"|Tokenizer class (?P<tokenizer>\w+) does not exist or is not currently imported"
)
"""The messages that name a symbol which a module lacks: groups ``symbol``/``module``, ``attribute``/``owner``,
``lazy``/``package``, ``tokenizer``.
"""
_LIMIT = 20_000
_CHARACTERS = 1_000_000
_ALIASES = ("TokenizerFast", "ImageProcessorFast")
"""Ends of names that transformers 5 answers for without listing them: it has the class without ``Fast``."""


def wanted(groups: Mapping[str, str]) -> tuple[str, str]:
    """The name that was asked for and the module that lacks it; the module is empty where the message does not say."""
    if groups.get("tokenizer"):
        return groups["tokenizer"], "transformers"
    symbol = groups.get("symbol") or groups.get("attribute") or groups.get("lazy") or ""
    return symbol, groups.get("module") or groups.get("owner") or groups.get("package") or ""


def names_of(module: ModuleType) -> set[str]:
    """Public names of a module, read from its tables: nothing is loaded (``dir`` of a lazy module costs 200 ms).

    Modules of others that it imports for itself (``torch.math``) are not meant for anybody.
    """
    lazy, listed = vars(module).get("_class_to_module"), vars(module).get("__all__")
    root = module.__name__.partition(".")[0]
    held = list(vars(module).items())[:_LIMIT]
    found = {name for name, value in held if type(value) is not ModuleType or value.__name__.startswith(root)}
    found |= set(lazy if isinstance(lazy, Mapping) else ())
    found |= {name for name in listed if isinstance(name, str)} if isinstance(listed, (list, tuple)) else set()
    found |= set(_aliases(module, found))
    return {name for name in found if name and name[0] != "_" and "." not in name}


def _aliases(module: ModuleType, names: set[str]) -> Iterator[str]:
    """The names that a lazy module's ``__getattr__`` makes up, where its code speaks of their endings."""
    code = getattr(getattr(type(module), "__getattr__", None), "__code__", None)
    for ending in _ALIASES:
        if ending in getattr(code, "co_consts", ()):
            yield from (f"{name}Fast" for name in names if name.endswith(ending.removesuffix("Fast")))


class InstalledSymbolsProbe(Probe):
    """The name that a failed import or attribute asked for, looked up in the loaded module's own tables.

    Facts: ``symbol``, ``module``, ``version`` (of the loaded library), ``exists``, ``elsewhere`` (where the library exports it, else
    the modules that have it; see ``homes`` of the history), ``nearest`` (names like it), ``sure`` (it can only be the first of them),
    ``slips`` (letters between), ``variants`` (``BertModel`` for ``TFBertModel``,
    ``ViTImageProcessor`` for ``ViTFeatureExtractor``, where they exist), ``file`` (of the loaded module), ``backends``
    (name → what it needs and this environment lacks). Source: ``_class_to_module`` and ``_object_missing_backend`` of
    the library's lazy module (transformers 4.57 and 5.23), else the module's dictionary; the library's files, read as text.
    """

    name: ClassVar[str] = "installed-symbols"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        found = failure.says(WANTED)
        symbol, where = wanted(found.groupdict()) if found else ("", "")
        where = where or imported_from(failure, symbol)
        module: Any = scene.module(where)
        top: Any = scene.module(where.split(".")[0])
        if not symbol or module is None or not re.fullmatch(rf"(?:{LIBRARIES})(?:\.\w+)*", where):
            return Evidence(missing=f"{where or 'the module'} is not loaded")
        known = names_of(module)
        scene.deadline.check()
        whole = names_of(top) if top is not None and top is not module else known
        near = guess(symbol, known)
        farther = guess(symbol, whole) if not near and whole is not known else near
        derived = (re.sub(r"^(?:TF|Flax)(?=[A-Z])", "", symbol), symbol.replace("FeatureExtractor", "ImageProcessor"))
        elsewhere = _elsewhere(scene, top, symbol) if symbol not in known else ()
        lacking = getattr(top, "_object_missing_backend", {})
        version = str(getattr(top, "__version__", ""))
        facts = {
            "symbol": symbol,
            "module": where,
            "version": version,
            "exists": symbol in known,
            "elsewhere": elsewhere,
            "nearest": farther.names,
            "sure": near.sure,
            "slips": farther.slips,
            "variants": tuple(other for other in derived if other != symbol and other in whole),
            "file": str(getattr(module, "__file__", "") or ""),
            "backends": {name: tuple(lacking[name]) for name in (symbol, *farther.names) if name in lacking},
        }
        source = f"{where.split('.')[0]} {version}".strip()
        seen = [Observation(f"`{symbol}` in {where}", "yes" if facts["exists"] else "no", source)]
        if elsewhere:
            seen.append(Observation(f"`{symbol}` is in", ", ".join(elsewhere), source))
        if farther:
            seen.append(Observation("Nearest names", ", ".join(farther.names), source))
        return Evidence(MappingProxyType(facts), tuple(seen))


def imported_from(failure: Failure, symbol: str) -> str:
    """The library from which the failing line (or pasted text) imports the name; empty when it does not say."""
    if not symbol:
        return ""
    texts = [failure.source, failure.text, *(frame.source for raised in failure.chain for frame in raised.frames)]
    pattern = re.compile(rf"from\s+((?:{LIBRARIES})(?:\.\w+)*)\s+import\b(?:[^\n]*|\s*\([^)]*)\b{re.escape(symbol)}\b")
    found = (pattern.search(text) for text in texts if text)
    return next((match[1] for match in found if match), "")


def _elsewhere(scene: Scene, top: Any, symbol: str) -> tuple[str, ...]:
    """Where the library has the name: itself where it exports it, else the modules that define it, else loaded public ones that hold it.

    Those that define it are known of transformers: the modules that did so in some release, each looked up in its file. Of those that hold
    the same object the one nearest to the top counts.
    """
    root = getattr(top, "__name__", "")
    if symbol in names_of(top):
        return (root,)
    if root == "transformers" and (found := _defined_in(top, symbol)):
        return found
    places: dict[str, object] = {}
    for name, module in list(sys.modules.items())[:_LIMIT]:
        if module is None or not f"{name}.".startswith(f"{root}.") or "._" in name:
            continue
        lazy = vars(module).get("_class_to_module")
        held = vars(module).get(symbol)
        named = hasattr(held, "__qualname__")  # a class or function: a type variable (``torch.nn.F``) is nobody's name
        own = named and str(getattr(held, "__module__", None) or "").partition(".")[0] == root
        if own or (isinstance(lazy, Mapping) and symbol in lazy):
            places[name] = name if held is None else held
    scene.deadline.check()
    nearest: dict[int, str] = {}  # of the modules that hold the same object
    for name in sorted(places, key=lambda name: (name.count("."), len(name), name)):
        nearest.setdefault(id(places[name]), name)
    return tuple(nearest.values())[:3]


def _defined_in(transformers: Any, symbol: str) -> tuple[str, ...]:
    root = os.path.dirname(str(getattr(transformers, "__file__", None) or ""))
    homes = [home for home, names in table("transformers_names")["homes"].items() if symbol in names.split()]
    defines = re.compile(rf"^(?:class|(?:async )?def) {symbol}\b|^{symbol}(?: *:[^=\n]+)? *=", re.M)
    return tuple(f"transformers.{home}" for home in homes if defines.search(text_of(root, home) or ""))[:3]


def text_of(folder: str, module: str) -> str | None:
    """The source of a module (a dotted name in the package at ``folder``); ``None`` where there is none of that name."""
    place = os.path.join(folder, *module.split("."))
    file = next((one for one in (f"{place}.py", os.path.join(place, "__init__.py")) if os.path.isfile(one)), "")
    if not file:
        return None
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read(_CHARACTERS)
    except OSError:
        return None
