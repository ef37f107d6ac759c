"""What can be done without the Hub: say what the cache holds, go offline or online live, or load local files only."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.addresses import hide_logins
from tfdiag_ipython.diagnosis import Applicability, Fix
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, set_arguments, transform
from tfdiag_ipython.fixes.switch import SetSwitches, Switch
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes._hub_needs import CONFIG
from tfdiag_ipython.probes.hub_cache import COMMIT, REPOSITORY
from tfdiag_ipython.rule import Offer, Rule

if TYPE_CHECKING:
    import libcst as cst

OFFERS = (
    Offer("go-offline", Applicability.SAFE),
    Offer("local-files-only", Applicability.SAFE),
)
RENAMES = (
    Offer("use-cached-name", Applicability.UNSAFE),
    Offer("use-nearest-folder", Applicability.UNSAFE),
)
ELSEWHERE = Offer("fetch-elsewhere", Applicability.DISPLAY_ONLY)
REVISION = Offer("use-cached-revision", Applicability.UNSAFE)
AGAIN = "download-again"
ONLINE = Offer("go-online", Applicability.UNSAFE)
PLAIN = Offer("use-plain-name", Applicability.SAFE)
ANONYMOUS = Offer("ask-without-token", Applicability.UNSAFE)
ALLOWED = Offer("ask-the-hub", Applicability.UNSAFE)
LOADERS = ("from_pretrained", "hf_hub_download", "snapshot_download", "cached_file")
NAMED = ("pretrained_model_name_or_path", "repo_id", "path_or_repo_id")


def cache_told(facts: Mapping[str, Any]) -> str:
    """One clause on what the cache holds of the repository; empty when none is known."""
    repo = str(facts.get("repo", ""))[:80]
    if not repo or facts.get("path") or _about(facts):
        return ""
    if repo == "None":
        return "the name that was asked for is None"
    if facts["complete"]:
        what = {"file": "the file", "snapshot": "a snapshot"}.get(str(facts["kind"]), f"the {facts['kind']}")
        return f"{what} of `{repo}` is in the local cache"
    if facts["commit"]:
        return f"the local cache {lacking_told(facts)}"
    if facts["snapshots"]:
        known = f" as commit {whole[:8]}" if COMMIT.fullmatch(whole := whole_revision(facts)) else ""
        return f"the local cache has `{repo}`{known}, but not as revision {str(facts['revision'])[:40]}"
    if facts["nearest"]:
        return f"the local cache has no `{repo}`, but `{str(facts['nearest'])[:80]}`"
    return f"the local cache holds nothing of `{repo}`"


def _about(facts: Mapping[str, Any]) -> bool:
    """Whether the call asks about a repository that is here, such as ``model_info``: none of its files can answer that."""
    return bool(facts.get("kind") == "file" and not facts.get("files") and facts.get("commit"))


def lacking_told(facts: Mapping[str, Any]) -> str:
    """What the cached commit holds, and what it has not that is needed of it."""
    held = CONFIG if CONFIG in facts["holds"] else f"{len(facts['holds'])} file(s)" if facts["holds"] else "a folder"
    lacks = " and ".join(f"no {name[:60]}" for name in facts["lacks"][:2])
    return f"holds {held} but {lacks} of `{str(facts['repo'])[:80]}`"


def whole_revision(facts: Mapping[str, Any]) -> str:
    """Another revision in the cache that has all that is needed, where the one that was asked for has not; empty: none."""
    if facts.get("complete") or facts.get("path"):
        return ""
    return next((str(name) for name, whole in facts.get("others", ()) if whole), "")


def cache_fixes(rule: Rule, facts: Mapping[str, Any]) -> tuple[Fix, ...]:
    """Fixes that load from the cache what it holds completely."""
    if not facts.get("complete"):
        return ()
    repo = str(facts["repo"])
    offline = rule.offer(
        "go-offline",
        "Go offline in this kernel",
        "As `HF_HUB_OFFLINE=1` before Python starts: loads the cached files, here and in every later cell, and asks the Hub for no newer ones.",
        repo=repo,
    )
    local = rule.offer(
        "local-files-only",
        "Load local files only, in this call",
        "Adds `local_files_only=True`: the same cached files, for this call.",
        repo=repo,
    )
    # a pipeline does not hand this argument to everything that it loads
    one_call = () if facts["kind"] == "pipeline" else (local,)
    return one_call if facts["offline"] else (offline, *one_call)


def elsewhere_fix(rule: Rule, facts: Mapping[str, Any]) -> tuple[Fix, ...]:
    """The commands that fetch what no cache here holds on a machine with a network, and where to put it."""
    repo, kind = str(facts.get("repo", "")), str(facts.get("repo_type", "model"))
    if not REPOSITORY.fullmatch(repo) or facts.get("path") or facts.get("complete") or _about(facts):
        return ()
    folder = f"{kind}s--{repo.replace('/', '--')}"
    which = "" if kind == "model" else f" --repo-type {kind}"
    if facts["revision"] != "main":
        which += f" --revision {shlex.quote(str(facts['revision'])[:100])}"
    fetch = f"hf download {shlex.quote(repo)}{which} --cache-dir carry"
    told = f"There: `{fetch}`. Copy the folder carry/{folder} into {facts.get('cache_told', facts['cache'])} here, then go offline and load again."
    return (rule.offer(ELSEWHERE.id, "Fetch it on a machine with a network", told),)


def online_fix(rule: Rule) -> Fix:
    """The way back to the network, for what no cache holds."""
    return rule.offer(
        "go-online",
        "Go online in this kernel",
        "As without `HF_HUB_OFFLINE` when Python starts: somebody switched offline mode on, and this program will then ask the Hub again. "
        "What it downloads stays in the cache.",
    )


def revision_fix(rule: Rule, facts: Mapping[str, Any], revision: str) -> tuple[Fix, ...]:
    """Load another revision that is in the cache."""
    if not revision:
        return ()
    shown = revision[:8] if COMMIT.fullmatch(revision) else revision
    told = f"Sets `revision={revision!r}`: downloaded here before, it may be another state of the model."
    repo = str(facts["repo"])
    return (rule.offer(REVISION.id, f"Load revision `{shown}`", told, repo=repo, revision=revision),)


def allow_fix(rule: Rule, facts: Mapping[str, Any]) -> tuple[Fix, ...]:
    """Let the call ask the Hub for what the cache lacks, where it was told not to."""
    if not facts.get("local_only") or facts.get("offline"):
        return ()
    told = "Takes `local_files_only` out of this call: it then downloads what is missing."
    return (rule.offer(ALLOWED.id, "Let this call ask the Hub", told, repo=str(facts["repo"])),)


def plain_fix(rule: Rule, old: str, meant: str) -> tuple[Fix, ...]:
    """The name alone, in the place of an address or of a name with something around it."""
    if not meant:
        return ()
    return (rule.offer(PLAIN.id, f"Give the name `{meant}`", "The same repository.", old=old, new=meant),)


def anonymous_fix(rule: Rule, facts: Mapping[str, Any]) -> tuple[Fix, ...]:
    """Ask as nobody, where the token is refused: that is enough for what is public."""
    if not facts.get("repo") or facts.get("path"):
        return ()
    told = "`token=False` in this call: the Hub hands out public repositories to anybody."
    return (rule.offer(ANONYMOUS.id, "Ask without a token, in this call", told, repo=str(facts["repo"])),)


def renamed_fix(rule: Rule, facts: Mapping[str, Any]) -> tuple[Fix, ...]:
    """The name that was misspelt, where the cache has one, or there is a folder, that is spelt nearly so."""
    old, new = str(facts.get("repo", "")), str(facts.get("nearest", ""))
    folder = str(facts.get("nearest_folder", ""))
    if folder and not new and not facts.get("folder"):
        return (rule.offer("use-nearest-folder", f"Load `{folder}`", "It is there.", old=old, new=folder),)
    if not new or facts.get("path"):
        return ()
    return (rule.offer("use-cached-name", f"Load `{new}`", f"`{new}` was downloaded here before.", old=old, new=new),)


def plan_remedy(fix: Fix, scene: Scene) -> Plan:
    """The plan of one of these fixes."""
    if fix.id in {"local-files-only", AGAIN, REVISION.id, ALLOWED.id, ANONYMOUS.id}:
        return _set_in_loader(str(fix.parameters["repo"]), _CHANGES.get(fix.id) or _revision(fix), scene)
    if fix.id in {offer.id for offer in (PLAIN, *RENAMES)}:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        return edit_cells(scene, lambda source: _replace_string(source, old, new), apart=True)
    if scene.host is None or scene.cell is None:
        raise PlanError("The failing cell is not known here: set HF_HUB_OFFLINE before Python starts.")
    offline = fix.id == "go-offline"
    variables: dict[str, str | None] = (
        {"HF_HUB_OFFLINE": "1"} if offline else {"HF_HUB_OFFLINE": None, "TRANSFORMERS_OFFLINE": None}
    )
    reset = getattr(sys.modules.get("huggingface_hub.utils._http"), "reset_sessions", None)
    return SetSwitches(
        scene.host,
        variables,
        (
            Switch("huggingface_hub.constants", "HF_HUB_OFFLINE", offline),
            Switch("transformers.utils.hub", "_is_offline_mode", offline),  # a copy that transformers 4 keeps
        ),
        refresh=(reset,) if callable(reset) else (),  # sessions of huggingface_hub 0 are made for one mode
        reruns=(scene.cell,),
    )


_CHANGES: Mapping[str, Mapping[str, str | None]] = {
    "local-files-only": {"local_files_only": "True"},
    AGAIN: {"force_download": "True"},
    ALLOWED.id: {"local_files_only": None},
    ANONYMOUS.id: {"token": "False"},
}
"""The arguments that a fix sets in the loading call, or (``None``) takes out."""


def _revision(fix: Fix) -> Mapping[str, str | None]:
    return {"revision": repr(fix.parameters["revision"])}


def _set_in_loader(repo: str, arguments: Mapping[str, str | None], scene: Scene) -> Plan:
    """Give these arguments (name to source; ``None`` takes it out) to the calls that load this repository."""
    namespace = scene.namespace

    def wanted(call: cst.Call) -> bool:
        return dotted(call.func).rpartition(".")[2] in LOADERS and _first_argument(call, namespace) == repo

    return edit_cells(scene, lambda source: set_arguments(source, wanted, arguments), apart=True)


def _first_argument(call: cst.Call, namespace: Mapping[str, Any]) -> object:
    """The repository that a loader's call names, as a literal or by a variable of the person's."""
    import libcst as cst

    for number, arg in enumerate(call.args):
        if (arg.keyword is None and number == 0 and not arg.star) or (arg.keyword and arg.keyword.value in NAMED):
            if isinstance(arg.value, cst.SimpleString):
                return arg.value.evaluated_value
            return namespace.get(arg.value.value) if isinstance(arg.value, cst.Name) else None
    return None


def _replace_string(source: str, old: str, new: str) -> str:
    """The source with every string that reads ``old``, which has no login, reading ``new``, in the quotes that it has."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_SimpleString(
            self, original_node: cst.SimpleString, updated_node: cst.SimpleString
        ) -> cst.SimpleString:
            value = original_node.evaluated_value
            if not isinstance(value, str) or hide_logins(value) != old:
                return updated_node
            plain = new.isprintable() and not {"\\", updated_node.quote[0], "{"} & set(new)
            quoted = f"{updated_node.prefix}{updated_node.quote}{new}{updated_node.quote}"
            return updated_node.with_changes(value=quoted if plain else repr(new))

    return transform(source, lambda tree: tree.visit(Editor()))
