"""Write ``tfdiag_ipython/data/transformers_names.json`` from a folder of wheels, one of each minor release of
transformers.

``python tools/transformers_names.py FOLDER``. The wheels are read, never installed:
``pip download --no-deps -d FOLDER transformers==4.18.0`` fetches one. It prints what it skipped.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

TARGET = Path(__file__).resolve().parent.parent / "tfdiag_ipython" / "data" / "transformers_names.json"
OLDEST = Version("4.18")
_ALL = re.compile(r"^__all__\s*\+?=\s*(\[.*?\]|\(.*?\))", re.S | re.M)
_CLASS = re.compile(r"^class (\w+)", re.M)
_ATTENTION = re.compile(r"(?:Flash|Sdpa)(?:Self)?Attention2?$")
_ALIASED = re.compile(r"(?:Tokenizer|Fast)$")
_OTHER_FRAMEWORK = re.compile(r"^(?:TF|Flax|Load_TF)[A-Z]|_tf_|_flax_|^(?:TF|FLAX)_")
_OTHER_FILE = re.compile(
    r"_(?:tf|flax)(?:_|\b)|/(?:tf|flax)_|/(?:commands|sagemaker|onnx|cli)/|/models/deprecated/|keras"
)
_MODELS = re.compile(r"transformers/models/.")
_DEFINED = re.compile(r"^(?:class|(?:async )?def) ([A-Za-z]\w*)|^([A-Z]\w*)(?: *:[^=\n]+)? *= ", re.M)
_MAPPINGS = ("transformers/models/auto/configuration_auto.py", "transformers/models/auto/auto_mappings.py")


@dataclass(frozen=True)
class Release:
    """What one wheel holds: exported names, attention classes, names and modules outside the models' folders, model types."""

    exported: frozenset[str]
    attention: frozenset[str]
    homes: frozenset[tuple[str, str]]  # modules outside the models' folders, each with a name that it defines
    anywhere: frozenset[str]  # names that any module defines
    modules: frozenset[str]
    types: frozenset[str]


def main(folder: Path) -> None:
    found: dict[str, Release] = {}
    for path in sorted(folder.glob("transformers-*.whl"), key=lambda path: Version(path.name.split("-")[1])):
        version = Version(path.name.split("-")[1])
        release = f"{version.major}.{version.minor}"
        if version < OLDEST or release in found:
            print(f"skipped {path.name}: {'older than ' + str(OLDEST) if version < OLDEST else release + ' was read'}")
            continue
        found[release] = read(path)
    if not found:
        raise SystemExit(f"{folder} holds no wheel of transformers {OLDEST} or later.")
    exported = {release: wheel.exported for release, wheel in found.items()}
    inner = {release: frozenset(name for _, name in wheel.homes) for release, wheel in found.items()}
    modules = {release: wheel.modules for release, wheel in found.items()}
    types = {release: wheel.types for release, wheel in found.items()}
    stems = {part for names in modules.values() for module in names for part in module.split(".")}
    exported = {release: names - stems for release, names in exported.items()}  # an alias of a module is a module
    ever = frozenset[str]().union(*exported.values())
    kept = {release: frozenset(n for n in names if not _ALIASED.search(n)) for release, names in exported.items()}
    lost_inside = {
        release: [name for name in names if name not in ever and not any(name in found[r].anywhere for r in since)]
        for release, names, since in gone(inner)
    }
    table = {
        "about": "Names that transformers exports, by the first minor release that has them (those of the oldest stand "
        "under oldest) and by the first that lacks them; likewise the attention classes of its modeling files; inner: names that the modules outside "
        "the models' folders define and the library does not export (gone: defined nowhere since); homes: those that define a name in any "
        "release; modules: all of these modules, without "
        "`transformers.`; types: model types, from CONFIG_MAPPING_NAMES. Read from the wheels of "
        f"{', '.join(found)} (the .0 release of each, or the earliest there is) by tools/transformers_names.py; "
        "not run. TensorFlow and Flax names are left out, and tokenizers and names that end in Fast from those gone: "
        "transformers 5 answers for some of them.",
        "oldest": " ".join(sorted(next(iter(exported.values())))),
        "first": first(exported),
        "gone": lost(kept),
        "attention_gone": lost({release: wheel.attention for release, wheel in found.items()}),
        "inner_first": {
            release: [name for name in names if name not in ever] for release, names in first(inner).items()
        },
        "inner_gone": lost_inside,
        "homes": homes_of(found.values()),
        "modules_first": first(modules),
        "modules_gone": lost(modules),
        "types_first": first(types),
        "types_gone": lost(types),
    }
    text = json.dumps(
        {key: value if isinstance(value, str) else packed(value) for key, value in table.items()}, indent=0
    )
    TARGET.write_text(text + "\n", "utf-8")


def read(wheel: Path) -> Release:
    """What one release has, read from its files."""
    with zipfile.ZipFile(wheel) as archive:
        files = [name for name in archive.namelist() if name.startswith("transformers/") and name.endswith(".py")]
        texts = {name: archive.read(name).decode("utf-8", "replace") for name in files}
    top = texts["transformers/__init__.py"]
    names = {node.value for node in ast.walk(ast.parse(top)) if isinstance(node, ast.Constant) and _plain(node.value)}
    if "define_import_structure" in top:  # the models' own lists are merged into the library's
        for name, text in texts.items():
            if name.startswith("transformers/models/"):
                for found in _ALL.findall(text):
                    try:
                        names.update(ast.literal_eval(found))
                    except ValueError:
                        print(f"skipped the __all__ of {wheel.name}: {name}, which is computed")
    modules = {Path(name).stem for name in files} | {Path(name).parent.name for name in files}
    classes = {found for name, text in texts.items() if "/modeling_" in name for found in _CLASS.findall(text)}
    inner = {
        module_of(name): text
        for name, text in texts.items()
        if not _MODELS.match(name) and not _OTHER_FILE.search(name) and "dummy_" not in name
    }
    return Release(
        exported=frozenset(name for name in names - modules if not _OTHER_FRAMEWORK.search(name) and name[0] != "_"),
        attention=frozenset(name for name in classes if _ATTENTION.search(name)),
        homes=frozenset(
            (module, name)
            for module, text in inner.items()
            for name in defined(text)
            if not _OTHER_FRAMEWORK.search(name)
        ),
        anywhere=frozenset(name for text in texts.values() for name in defined(text)),
        modules=frozenset(inner) - {""},
        types=frozenset(model_type for name in _MAPPINGS if name in texts for model_type in mapped(texts[name])),
    )


def module_of(file: str) -> str:
    """The module's dotted name below ``transformers``; empty for the package itself."""
    path = file.removeprefix("transformers/").removesuffix(".py").removesuffix("__init__").rstrip("/")
    return path.replace("/", ".")


def defined(text: str) -> set[str]:
    """Public classes, functions and constants that a module defines itself."""
    return {name or constant for name, constant in _DEFINED.findall(text)}


def mapped(text: str) -> set[str]:
    """The keys of ``CONFIG_MAPPING_NAMES``, wherever the module assigns or updates it."""
    keys: set[str] = set()
    for statement in ast.parse(text).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "value", None)
        if not isinstance(statement, (ast.Assign, ast.Expr)) or "CONFIG_MAPPING_NAMES" not in ast.dump(target)[:200]:
            continue
        for node in ast.walk(statement.value):
            pairs = [node.elts[:1]] if isinstance(node, ast.Tuple) and len(node.elts) == 2 else []
            pairs += [node.keys] if isinstance(node, ast.Dict) else []
            keys |= {
                key.value
                for some in pairs
                for key in some
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
    return keys


def _plain(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()


def first(names: dict[str, frozenset[str]]) -> dict[str, list[str]]:
    """Names by the first release that has them, but for those of the oldest."""
    seen, new = frozenset[str](), dict[str, list[str]]()
    for release, present in names.items():
        if seen:
            new[release] = sorted(present - seen)
        seen |= present
    return new


def gone(names: dict[str, frozenset[str]]) -> list[tuple[str, list[str], list[str]]]:
    """Each release with the names that the one before it was the last to have, and the releases from it on."""
    releases = list(names)
    last = {name: number for number, release in enumerate(releases) for name in names[release]}
    return [
        (release, sorted(name for name, place in last.items() if place == number - 1), releases[number:])
        for number, release in enumerate(releases)
        if number
    ]


def homes_of(wheels: Iterable[Release]) -> dict[str, list[str]]:
    """The modules outside the models' folders with the names that they define in any release."""
    homes: dict[str, set[str]] = {}
    for module, name in frozenset[tuple[str, str]]().union(*(wheel.homes for wheel in wheels)):
        homes.setdefault(module, set()).add(name)
    return {module: sorted(homes[module]) for module in sorted(homes) if module}


def lost(names: dict[str, frozenset[str]]) -> dict[str, list[str]]:
    """Names by the release after the last one that has them."""
    return {release: left for release, left, _ in gone(names)}


def packed(table: dict[str, list[str]]) -> dict[str, str]:
    """One string of names for each release: a file that git and people can read line by line."""
    return {release: " ".join(names) for release, names in table.items() if names}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
