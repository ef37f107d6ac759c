"""Whether the loaded library has the name that was asked for, the nearest names that it has, and what they need."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

from tfdiag_ipython.data import table
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

LIBRARIES = (
    "transformers|huggingface_hub|tokenizers|accelerate|datasets|safetensors|peft|trl|evaluate|diffusers|optimum|timm"
    "|sentence_transformers|torchvision|torchaudio|torch"
)
"""Import names of the libraries that these rules speak of, as a regular expression."""
_QUOTE = "['\"`‘’]"
WANTED = re.compile(
    rf"cannot import name {_QUOTE}?(?P<symbol>\w+)\b(?!{_QUOTE}? from partially){_QUOTE}?"
    rf"(?: from {_QUOTE}(?P<module>\w+(?:\.\w+)*){_QUOTE}?(?: \((?P<file>[^)\n]*)\))?)?"
    rf"|module {_QUOTE}?(?P<owner>(?:{LIBRARIES})(?:\.\w+)*){_QUOTE}? has no attribute {_QUOTE}?(?P<attribute>\w+)"
    rf"|Tokenizer class (?P<tokenizer>\w+) does not exist or is not currently imported"
)
"""The messages that name a symbol which a module lacks: groups ``symbol``/``module``, ``attribute``/``owner``,
``tokenizer``.
"""
_LIMIT = 20_000
_CHARACTERS = 1_000_000
_CUTOFF = 0.84
_STEM_CUTOFF = 0.78
_KIND = re.compile(
    r"(?P<stem>\w*?)(?P<kind>For[A-Z]\w+|(?:PreTrained|LMHead)?Model|Config|Tokenizer(?:Fast)?|(?:Image|Video)?Processor(?:Fast)?"
    r"|FeatureExtractor|Pipeline)"
)


def wanted(groups: Mapping[str, str]) -> tuple[str, str]:
    """The name that was asked for and the module that lacks it; the module is empty where the message does not say."""
    if groups.get("tokenizer"):
        return groups["tokenizer"], "transformers"
    return groups.get("symbol") or groups.get("attribute") or "", groups.get("module") or groups.get("owner") or ""


def names_of(module: ModuleType) -> set[str]:
    """Public names of a module, read from its tables: nothing is loaded (``dir`` of a lazy module costs 200 ms)."""
    lazy = vars(module).get("_class_to_module")
    found = set(vars(module)) | set(lazy if isinstance(lazy, Mapping) else ())
    return {name for name in list(found)[:_LIMIT] if name and name[0] != "_" and "." not in name}


def nearest(name: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """The names most like this one, best first; case does not count.

    A name with other digits is another generation (``Llama4…`` is no misspelt ``Llama3…``), and of two names of the same kind
    (``…Tokenizer``, ``…ForCausalLM``) it is the family in front that must be alike.
    """
    plain, digits = name.lower(), re.findall(r"\d+", name)
    near = {other for other in known if abs(len(other) - len(name)) <= 3 and len(set(other.lower()) ^ set(plain)) <= 4}
    matcher = difflib.SequenceMatcher(b=plain)
    scored = []
    for other in near:
        matcher.set_seq1(other.lower())
        if re.findall(r"\d+", other) != digits or not _same_family(name, other):
            continue
        if matcher.real_quick_ratio() >= _CUTOFF and matcher.quick_ratio() >= _CUTOFF and matcher.ratio() >= _CUTOFF:
            scored.append((-matcher.ratio(), other))
    return tuple(other for _, other in sorted(scored)[:count])


def likeness(name: str, other: str) -> float:
    """How like two names are, from 0 to 1; case does not count."""
    return difflib.SequenceMatcher(a=other.lower(), b=name.lower()).ratio()


def _same_family(name: str, other: str) -> bool:
    """Whether what stands in front of the kind is alike, where both names are of one kind (``…Tokenizer``)."""
    one, two = _KIND.fullmatch(name), _KIND.fullmatch(other)
    if one is None or two is None or one["kind"] != two["kind"]:
        return True
    return difflib.SequenceMatcher(a=two["stem"].lower(), b=one["stem"].lower()).ratio() >= _STEM_CUTOFF


class InstalledSymbolsProbe(Probe):
    """The name that a failed import or attribute asked for, looked up in the loaded module's own tables.

    Facts: ``symbol``, ``module``, ``version`` (of the loaded library), ``exists``, ``elsewhere`` (where the
    library exports it, else the modules that define it; see ``homes`` of the history), ``nearest`` (names like it), ``variants`` (``BertModel`` for ``TFBertModel``,
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
        near = nearest(symbol, known) or (nearest(symbol, whole) if whole is not known else ())
        derived = (re.sub(r"^(?:TF|Flax)(?=[A-Z])", "", symbol), symbol.replace("FeatureExtractor", "ImageProcessor"))
        lacking = getattr(top, "_object_missing_backend", {})
        version = str(getattr(top, "__version__", ""))
        elsewhere = _elsewhere(top, symbol) if symbol not in known else ()
        facts = {
            "symbol": symbol,
            "module": where,
            "version": version,
            "exists": symbol in known,
            "elsewhere": elsewhere,
            "nearest": near,
            "variants": tuple(other for other in derived if other != symbol and other in whole),
            "file": str(getattr(module, "__file__", "") or ""),
            "backends": {name: tuple(lacking[name]) for name in (symbol, *near) if name in lacking},
        }
        source = f"{where.split('.')[0]} {version}".strip()
        seen = [Observation(f"`{symbol}` in {where}", "yes" if facts["exists"] else "no", source)]
        if elsewhere:
            seen.append(Observation(f"`{symbol}` is defined in", ", ".join(elsewhere), "the library's files"))
        if near:
            seen.append(Observation("Nearest names", ", ".join(near), source))
        return Evidence(MappingProxyType(facts), tuple(seen))


def imported_from(failure: Failure, symbol: str) -> str:
    """The library from which the failing line (or pasted text) imports the name; empty when it does not say."""
    if not symbol:
        return ""
    texts = [failure.source, failure.text, *(frame.source for raised in failure.chain for frame in raised.frames)]
    pattern = re.compile(rf"from\s+((?:{LIBRARIES})(?:\.\w+)*)\s+import\b(?:[^\n]*|\s*\([^)]*)\b{re.escape(symbol)}\b")
    found = (pattern.search(text) for text in texts if text)
    return next((match[1] for match in found if match), "")


def _elsewhere(top: Any, symbol: str) -> tuple[str, ...]:
    """Where the library has the name: itself where it exports it, else the modules that define it.

    Of transformers the modules are those that did so in some release, each looked up in its file; of others, those that are loaded.
    """
    root = str(getattr(top, "__file__", None) or "")
    if symbol in names_of(top):
        return (top.__name__,)
    if top.__name__ != "transformers":
        modules = [module for name, module in list(sys.modules.items())[:_LIMIT] if name.startswith(f"{top.__name__}.")]
        owners = {str(getattr(vars(module).get(symbol), "__module__", "")) for module in modules if module is not None}
        return tuple(sorted(owner for owner in owners if owner.startswith(f"{top.__name__}.")))[:3]
    homes = [home for home, names in table("transformers_names")["homes"].items() if symbol in names.split()]
    defines = re.compile(rf"^(?:class|(?:async )?def) {symbol}\b|^{symbol}(?: *:[^=\n]+)? *=", re.M)
    return tuple(
        f"transformers.{home}" for home in homes if defines.search(text_of(os.path.dirname(root), home) or "")
    )[:3]


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
