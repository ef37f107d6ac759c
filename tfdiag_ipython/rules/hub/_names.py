"""Names that cannot be a repository's as they stand, and the name that was meant where that is certain."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tfdiag_ipython.probes.hub_cache import REPOSITORY

_VIEWS = "tree|blob|resolve|raw|blame|edit|commits?"
_ADDRESS = re.compile(
    r"(?:(?P<scheme>https?|hf)://)?(?:[^\s/@]{1,300}@)?(?P<host>(?:www\.)?(?:huggingface\.co|hf\.co)[/:])?(?P<type>models/|datasets/|spaces/)?"
    rf"(?P<repo>[\w.-]{{1,96}}(?:/(?!(?:{_VIEWS}|discussions)/)[\w.-]{{1,96}})?)"
    rf"(?:/(?:{_VIEWS})/(?P<revision>[^/?#]+)(?P<file>/[^?#]*)?|/discussions(?:/\d+)?)?/?(?:[?#].*)?",
    re.IGNORECASE,
)
_FIRST = (
    "api blog brand changelog chat code-of-conduct collections contact content-guidelines course datasets docs download endpoints "
    "enterprise events front hardware inference inference-endpoints jobs join kernels languages leaderboards learn login logout "
    "metrics models new new-dataset new-space notifications oauth organizations papers playground posts pricing privacy search "
    "security settings spaces storage support tasks team terms-of-service transformers users welcome"
)
_PAGES = frozenset(_FIRST.split())
"""First parts of the addresses of the site's own pages, which no user and no organization can have as a name."""

_OTHERS = {
    "datasets/": 'Give that name to `datasets.load_dataset`, or to this call with `repo_type="dataset"`.',
    "spaces/": "A space is a program, and no model: its page says which models it uses.",
}
"""What to do with the address of a repository that is no model."""


@dataclass(frozen=True)
class Name:
    """What is wrong with a name, as the beginning of a title; the name ``meant``, empty where that is not certain; and more words."""

    told: str
    meant: str = ""
    why: str = ""


def read_name(name: str, hub: str = "") -> Name | None:
    """What is wrong with this name in itself; ``None`` where it may be the path of a folder. ``hub`` is the address of a mirror in use."""
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
    if hub and bare.startswith(f"{hub}/"):
        bare = f"https://huggingface.co{bare[len(hub) :]}"
    found = _ADDRESS.fullmatch(bare)
    if found and (found["host"] or found["scheme"] == "hf"):
        kind, revision = (found["type"] or "models/").lower(), found["revision"] or "main"
        meant = found["repo"].removesuffix(".git")
        if meant.partition("/")[0].lower() in _PAGES and found["host"]:
            return _page(shown)
        if kind in _OTHERS:
            return Name(f"`{shown}` is a web address, and the name of that {kind[:-2]} is `{meant}`", why=_OTHERS[kind])
        told = f"`{shown}` is a web address, and the name of that repository is `{meant}`"
        if revision != "main":
            return Name(told, why=f'Give `{meant}` and `revision="{revision[:60]}"`.')
        login = " A login in it is not read: log in with `hf auth login`." if "@" in shown else ""
        return Name(told, meant, f"Of the address only `{meant}` is the name; a file in it is another argument.{login}")
    if re.match(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)(?:/|$)", bare, re.IGNORECASE):
        return _page(shown)
    if at := re.fullmatch(r"(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})@(?P<revision>[\w./-]{1,100})", bare):
        told = f"`{shown}` has a revision behind the name, which is an argument of its own"
        return Name(told, why=f'Give `{at["repo"]}` and `revision="{at["revision"]}"`.')
    if bare.startswith("file://"):
        told = f"`{shown}` is the address of a folder, and this call takes its path"
        return Name(told, why=f"Give `{bare.removeprefix('file://').removeprefix('localhost')[:100]}`.")
    if re.match(r"\w{2,9}://", bare):
        return Name(
            f"`{shown}` is a web address, and neither a folder nor a name on the Hub",
            why="Download it to a folder first.",
        )
    return None


def _page(shown: str) -> Name:
    """What is said of the site's other pages."""
    told = f"`{shown}` is the address of a page of the Hub's site, and no repository's name"
    return Name(
        told,
        why="A model's own page has its name, such as `google-bert/bert-base-uncased`, at the top, with a button that copies it.",
    )
