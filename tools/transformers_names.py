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
from pathlib import Path

from packaging.version import Version

TARGET = Path(__file__).resolve().parent.parent / "tfdiag_ipython" / "data" / "transformers_names.json"
OLDEST = Version("4.18")
_ALL = re.compile(r"^__all__\s*\+?=\s*(\[.*?\]|\(.*?\))", re.S | re.M)
_CLASS = re.compile(r"^class (\w+)", re.M)
_ATTENTION = re.compile(r"(?:Flash|Sdpa)(?:Self)?Attention2?$")
_ALIASED = re.compile(r"(?:Tokenizer|Fast)$")
_OTHER_FRAMEWORK = re.compile(r"^(?:TF|Flax|Load_TF)[A-Z]|_tf_|_flax_|^(?:TF|FLAX)_")


def main(folder: Path) -> None:
    releases, exported, attention = [], {}, {}
    for path in sorted(folder.glob("transformers-*.whl"), key=lambda path: Version(path.name.split("-")[1])):
        version = Version(path.name.split("-")[1])
        release = f"{version.major}.{version.minor}"
        if version < OLDEST or release in releases:
            print(f"skipped {path.name}: {'older than ' + str(OLDEST) if version < OLDEST else release + ' was read'}")
            continue
        releases.append(release)
        exported[release], attention[release] = names_of(path)
    if not releases:
        raise SystemExit(f"{folder} holds no wheel of transformers {OLDEST} or later.")
    table = {
        "about": "Names that transformers exports, by the first minor release that has them (those of the oldest stand "
        "under oldest) and by the first that lacks them; likewise the attention classes of its modeling files. Read from the "
        "wheels of "
        f"{', '.join(releases)} (the .0 release of each, or the earliest there is) by tools/transformers_names.py; "
        "not run. TensorFlow and Flax names are left out, and tokenizers and names that end in Fast from those gone: "
        "transformers 5 answers for some of them.",
        "oldest": " ".join(sorted(exported[releases[0]])),
        "first": {new: sorted(exported[new] - seen) for new, seen in before(releases, exported)},
        "gone": lost(
            releases, {release: {n for n in names if not _ALIASED.search(n)} for release, names in exported.items()}
        ),
        "attention_gone": lost(releases, attention),
    }
    text = json.dumps(
        {key: value if isinstance(value, str) else packed(value) for key, value in table.items()}, indent=0
    )
    TARGET.write_text(text + "\n", "utf-8")


def names_of(wheel: Path) -> tuple[set[str], set[str]]:
    """Names that the library exports, and classes of its modeling files named for a kernel of attention."""
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
    plain = {name for name in names - modules if not _OTHER_FRAMEWORK.search(name) and name[0] != "_"}
    return plain, {name for name in classes if _ATTENTION.search(name)}


def _plain(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier()


def before(releases: list[str], names: dict[str, set[str]]) -> list[tuple[str, set[str]]]:
    """Each release but the oldest, with all names of the releases before it."""
    pairs, seen = [], set(names[releases[0]])
    for release in releases[1:]:
        pairs.append((release, set(seen)))
        seen |= names[release]
    return pairs


def lost(releases: list[str], names: dict[str, set[str]]) -> dict[str, list[str]]:
    """Names by the release after the last one that has them."""
    left: dict[str, list[str]] = {}
    for name in set().union(*names.values()):
        last = max(index for index, release in enumerate(releases) if name in names[release])
        if last + 1 < len(releases):
            left.setdefault(releases[last + 1], []).append(name)
    return {release: sorted(left[release]) for release in releases if release in left}


def packed(table: dict[str, list[str]]) -> dict[str, str]:
    """One string of names for each release: a file that git and people can read line by line."""
    return {release: " ".join(names) for release, names in table.items() if names}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
