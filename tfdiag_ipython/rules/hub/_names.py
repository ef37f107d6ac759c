"""Names that cannot be a repository's as they stand, and the name that was meant where that is certain."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfdiag_ipython.probes.hub_cache import REPOSITORY

_ADDRESS = re.compile(
    r"(?:(?P<scheme>https?|hf)://)?(?P<host>(?:www\.)?(?:huggingface\.co|hf\.co)/)?(?P<type>models/|datasets/|spaces/)?"
    r"(?P<repo>[\w.-]{1,96}(?:/(?!(?:tree|blob|resolve|raw)/)[\w.-]{1,96})?)"
    r"(?:/(?:tree|blob|resolve|raw)/(?P<revision>[^/?#]+)(?P<file>/[^?#]*)?)?/?(?:[?#].*)?"
)


@dataclass(frozen=True)
class Name:
    """What is wrong with a name, as the beginning of a title; the name ``meant``, empty where that is not certain; and more words."""

    told: str
    meant: str = ""
    why: str = ""


def read_name(name: str) -> Name | None:
    """What is wrong with this name in itself; ``None`` where it may be the path of a folder."""
    if not name.strip():
        what = "An empty name" if not name else "A blank"
        return Name(f"{what} was given in place of a repository's name or a folder", why="Look at what made the name.")
    if name == "None":
        told = "None was given in place of a repository's name or a folder"
        return Name(told, why="The variable that should hold the name is None.")
    shown = name[:100]
    bare = name.strip().strip("'\"`").strip()
    if bare != name and REPOSITORY.fullmatch(bare):
        extra = "spaces around it" if name.strip() == bare else "quotes in it"
        return Name(f"`{shown}` has {extra}, which are no part of a name", bare)
    found = _ADDRESS.fullmatch(bare)
    if found and (found["host"] or found["scheme"] == "hf"):
        kind, revision = found["type"] or "models/", found["revision"] or "main"
        meant = found["repo"]
        if kind != "models/":
            return Name(f"`{shown}` is the address of a {kind[:-2]}, and this call takes a model's name")
        told = f"`{shown}` is a web address, and the name of that repository is `{meant}`"
        if revision != "main":
            return Name(told, why=f'Give `{meant}` and `revision="{revision[:60]}"`.')
        return Name(told, meant, f"Of the address only `{meant}` is the name; a file in it is another argument.")
    if re.match(r"\w{2,9}://", bare):
        return Name(
            f"`{shown}` is a web address, and neither a folder nor a name on the Hub",
            why="Download it to a folder first.",
        )
    return None
