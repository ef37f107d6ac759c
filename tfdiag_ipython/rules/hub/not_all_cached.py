from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes._hub_needs import TOKENIZER, WEIGHTS
from tfdiag_ipython.probes.hub_cache import COMMIT, HubCacheProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own
from tfdiag_ipython.rules.hub._examples import CACHED, ONLINE, SERVING
from tfdiag_ipython.rules.hub._remedies import (
    ALLOWED,
    ELSEWHERE,
    REVISION,
    allow_fix,
    elsewhere_fix,
    lacking_told,
    online_fix,
    plan_remedy,
    revision_fix,
    whole_revision,
)
from tfdiag_ipython.rules.hub._remedies import ONLINE as ONLINE_OFFER
from tfdiag_ipython.rules.hub._told import switch_told

CONFIG_ONLY = f"""{CACHED}
import shutil
[path.unlink() for path in snapshot.iterdir()]
shutil.copy(served / "config.json", snapshot)
"""
EARLIER = """
earlier = snapshot.with_name("89abcdef" * 5)
from transformers import AutoModel, BertModel
BertModel(BertConfig.from_pretrained(snapshot)).save_pretrained(earlier)
"""
OFFLINE = {**ONLINE, "HF_HUB_OFFLINE": "1"}
EMPTIED = (
    "[path.unlink() for path in snapshot.iterdir() if path.name != 'config.json']\n"  # also what a fix has fetched
)
LOAD = f"{EMPTIED}from transformers import AutoModel\nmodel = AutoModel.from_pretrained('acme/tiny-bert')"
ABSENT = {WEIGHTS: re.compile(r"(?:model|pytorch_model)\."), TOKENIZER: re.compile(r"(?:tokenizer|vocab)\.")}
"""Files of which one is known not to be on the Hub, where the repository itself has nothing of the kind."""
SEEN = {
    "repo": "acme/tiny",
    "repo_type": "model",
    "revision": "main",
    "files": (),
    "kind": "model",
    "path": False,
    "folder": False,
    "local_only": False,
    "commit": "0123456701234567012345670123456701234567",
    "holds": ("config.json",),
    "lacks": ("weights",),
    "absent": (),
    "others": (),
    "complete": False,
    "offline": False,
    "cache": "/srv/hub",
}
TEXT = "OSError: acme/tiny does not appear to have a file named pytorch_model.bin or model.safetensors."


class NotAllCached(Rule):
    """The Hub's cache holds a part of the repository only, and nobody was asked for the rest.

    *What it means*
    The loader found the repository's folder in the cache, took what was there, and then lacked the weights or the tokenizer.

    *Why it happens*
    Only the configuration was loaded before (`AutoConfig`, a tokenizer, a look at the model), a download was stopped, or a newer commit was
    begun: the older one may still be there whole. In offline mode, with `local_files_only=True` and without a network the rest is not fetched.

    *How tfdiag confirms it*
    It lists the cached commit's files, compares them with what this loader cannot do without, and looks whether the Hub is known not to
    have them.

    *Fixes and their safety*
    `use-cached-revision` (unsafe: another state of the model) loads a commit that is there whole. `go-online` and `ask-the-hub` (unsafe:
    somebody wanted no network) fetch the rest. `fetch-elsewhere` says how to carry it over from another machine.

    *Example*
    `AutoModel.from_pretrained("acme/tiny", local_files_only=True)`, of which only config.json was ever downloaded.

    *References*
    huggingface_hub: "Understand caching"; transformers: `modeling_utils.py`, `_get_resolved_checkpoint_files`.
    """

    code = "HUB008"
    name = "not-all-cached"
    message = re.compile(
        r"does not appear to have (?:a file|files) named"
        r"|\A'NoneType' object has no attribute 'endswith'"  # transformers 4, of the weights' name
        r"|Can't load (?:tokenizer|feature extractor|image processor|processor|video processor|the model) for '"
        r"|(?:expected str, bytes or os\.PathLike object|path should be string, bytes, os\.PathLike or integer), not NoneType"
        r"|requires the protobuf library but it was not found"  # which transformers 4 looks for when a tokenizer's file is not there
    )
    specific = True  # asks for a cached commit that lacks something
    needs = (HubCacheProbe,)
    fixes = (REVISION, ONLINE_OFFER, ALLOWED, ELSEWHERE)
    CASES = (
        Match(
            text=TEXT,
            evidence={"hub-cache": SEEN},
            certainty=Certainty.LIKELY,
            title=r"The cache holds config\.json but no weights of `acme/tiny` \(revision main, commit 01234567\)",
            fixes=("fetch-elsewhere",),
        ),
        NoMatch(text=TEXT, code="CKP001"),
        NoMatch(text="AttributeError: 'NoneType' object has no attribute 'endswith'"),
        Reproduce(
            (SERVING, CONFIG_ONLY, LOAD),
            title=r"The cache holds config\.json but no weights of `acme/tiny-bert` \(revision main, commit 01234567\), and offline mode is "
            r"on \(HF_HUB_OFFLINE\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("go-online"),),
            environment=OFFLINE,
            isolated=True,
        ),
        Reproduce(
            (SERVING, CONFIG_ONLY, LOAD.replace("bert')", "bert', local_files_only=True)")),
            title=r"no weights of `acme/tiny-bert` .*, and the call asks nobody \(`local_files_only=True`\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-the-hub"),),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (SERVING, CONFIG_ONLY + EARLIER, LOAD),
            title="commit 01234567.*; commit 89abcdef is there whole",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-cached-revision"),),
            environment=OFFLINE,
            isolated=True,
        ),
        Reproduce(
            (
                SERVING,
                CONFIG_ONLY,
                f"{EMPTIED}AutoTokenizer.from_pretrained('acme/tiny-bert', local_files_only=True)",
            ),
            title="holds config.json but no tokenizer files of `acme/tiny-bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-the-hub"),),
            needs=("torch", "transformers<5", "without protobuf"),  # 5 makes a tokenizer without words
            environment=ONLINE,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[HubCacheProbe.name]
        if not seen.get("commit") or not seen.get("lacks") or seen.get("folder") or own(failure, TRANSFORMERS):
            return None
        if any(ABSENT[what].match(name) for what in seen["lacks"] if what in ABSENT for name in seen["absent"]):
            return None  # the Hub was asked, and has no such file either
        revision, commit = str(seen["revision"]), str(seen["commit"])[:8]
        which = f"commit {commit}" if COMMIT.fullmatch(revision) else f"revision {revision[:40]}, commit {commit}"
        title = f"The cache {lacking_told(seen.facts)} ({which})"
        other = whole_revision(seen.facts)
        why = "The Hub did not hand it out now: it has no such file, or is out of reach (`%tfdiag probe hub`)."
        if seen["offline"]:
            title += f", and offline mode is on ({switch_told(seen)})"
            why = "The rest was never downloaded, and in offline mode nobody is asked for it."
        elif seen["local_only"]:
            title += ", and the call asks nobody (`local_files_only=True`)"
            why = "The rest was never downloaded, and `local_files_only=True` forbids to fetch it."
        if other:
            title += (
                f"; {f'commit {other[:8]}' if COMMIT.fullmatch(other) else f'revision {other[:40]}'} is there whole"
            )
        fixes: tuple[Fix, ...] = revision_fix(self, seen.facts, other)
        fixes += (online_fix(self),) if seen["offline"] else allow_fix(self, seen.facts)
        return self.found(
            title[:200],
            Certainty.CONFIRMED if seen["offline"] or seen["local_only"] else Certainty.LIKELY,
            what="The loader took what the cache has of this repository, and lacked the rest.",
            why=why,
            evidence=seen.seen,
            fixes=(*fixes, *elsewhere_fix(self, seen.facts)),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_remedy(fix, scene)
