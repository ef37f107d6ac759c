from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cache_entry import DeleteCacheEntry
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_entry import HubEntryProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.hub._examples import CACHED, ONLINE, SERVING
from tfdiag_ipython.sizes import file_size

SEEN = {
    "path": "/hub/models--acme--tiny/snapshots/0123456701234567012345670123456701234567/model.safetensors",
    "name": "model.safetensors",
    "repo": "acme/tiny",
    "size": 134,
    "problem": "a Git LFS pointer",
    "blob": "/hub/models--acme--tiny/blobs/4d4d",
    "links": ("/hub/models--acme--tiny/snapshots/0123456701234567012345670123456701234567/model.safetensors",),
    "offline": False,
    "local_only": False,
    "as_folder": False,
}
CUT = 'file = snapshot / "model.safetensors"\nfile.write_bytes(file.read_bytes()[:200])\n'
FILLED = "import shutil\nshutil.copytree(served, snapshot, dirs_exist_ok=True)\n"
POINTED = 'text = "version https://git-lfs.github.com/spec/v1\\noid sha256:" + "4d" * 32 + "\\nsize 5\\n"\n'


class DamagedCacheEntry(Rule):
    """A file in the Hub's cache is damaged: cut short, empty, a Git LFS pointer or a web page.

    *What it means*
    The library found the file in its cache and does not ask again, so each load fails on the same bytes.

    *Why it happens*
    A download that was killed at a bad moment, a full disk, a copied cache without its blobs, a proxy that answered with a page.

    *How tfdiag confirms it*
    It reads the size and the first bytes of the cached files that the failing frames name.

    *Fixes and their safety*
    `delete-cache-entry` (unsafe: cannot be undone) deletes this one file and the links to it, and runs the cell again, which fetches it
    from the Hub. It is shown only, where the program asks nobody (offline mode, `local_files_only=True`) or loads the folder.

    *Example*
    `SafetensorError: Error while deserializing header: MetadataIncompleteBuffer` for a model that loaded yesterday.

    *References*
    huggingface_hub: "Understand caching"; safetensors: format page; Git LFS: pointer specification.
    """

    code = "HUB007"
    name = "damaged-cache-entry"
    message = re.compile(
        r"Unable to load (?:weights|vocabulary)? ?from (?:h5|(?:pytorch )?checkpoint) file|[Ee]rror while deserializing header"
        r"|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer|invalid load key|PytorchStreamReader failed|Unsupported operand \d+"
        r"|is not a valid JSON file|Expecting (?:value|property name|',' delimiter|':' delimiter)|Unterminated string starting|Extra data: line"
        r"|requires the protobuf library but it was not found"  # which transformers 4 looks for when a tokenizer cannot be built
        r"|(?:expected \w+|EOF while parsing a? ?\w+|trailing \w+|key must be a string) at line \d+ column \d+"
    )
    specific = True  # asks for a damaged file in the cache
    needs = (HubEntryProbe,)
    fixes = (Offer("delete-cache-entry", Applicability.UNSAFE),)
    links = (Link("The Hub's cache", "https://huggingface.co/docs/huggingface_hub/guides/manage-cache"),)
    CASES = (
        Match(
            text="safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
            evidence={"hub-entry": SEEN},
            certainty=Certainty.CONFIRMED,
            title=r"The cached model\.safetensors of `acme/tiny` is damaged: a Git LFS pointer; delete this one file \(134 bytes\)",
            fixes=("delete-cache-entry",),
        ),
        NoMatch(
            text="safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
            code="CKP002",
        ),
        NoMatch(text="json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        Reproduce(
            (SERVING, CACHED, FILLED + CUT, "model = AutoModel.from_pretrained('acme/tiny-bert')"),
            title=r"The cached model\.safetensors of `acme/tiny-bert` is damaged: cut short",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("delete-cache-entry"),),
            environment=ONLINE,
            isolated=True,
        ),
        Match(
            text="safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
            evidence={"hub-entry": {**SEEN, "local_only": True}},
            title="damaged: a Git LFS pointer; `local_files_only=True` forbids to fetch it anew",
        ),
        Reproduce(
            (
                SERVING,
                CACHED,
                FILLED + POINTED + "(snapshot / 'config.json').write_text(text)",
                "AutoModel.from_pretrained('acme/tiny-bert')",
            ),
            title=r"The cached config\.json of `acme/tiny-bert` is damaged: a Git LFS pointer",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("delete-cache-entry"),),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (
                SERVING,
                CACHED,
                FILLED + "(snapshot / 'tokenizer.json').write_text('')",
                "AutoTokenizer.from_pretrained('acme/tiny-bert')",
            ),
            title=r"The cached tokenizer\.json of `acme/tiny-bert` is damaged: it holds nothing",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("delete-cache-entry"),),
            environment=ONLINE,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[HubEntryProbe.name]
        if not seen:
            return None
        file, size = f"{str(seen['name'])[-60:]} of `{str(seen['repo'])[:60]}`", file_size(seen["size"])
        advice = f"delete this one file ({size})"
        if seen["offline"]:
            advice = "offline mode is on, so that it cannot be fetched anew"
        elif seen["local_only"]:
            advice = "`local_files_only=True` forbids to fetch it anew"
        elif seen["as_folder"]:
            advice = "load the repository by its name to fetch it anew"
        fix = self.offer(
            "delete-cache-entry",
            f"Delete this file from the cache ({size}) and load again",
            "Only this file and the links to it; the cell then fetches it from the Hub.",
            display=bool(seen["offline"] or seen["local_only"] or seen["as_folder"]),
            blob=seen["blob"],
            links=tuple(seen["links"]),
            size=seen["size"],
        )
        return self.found(
            f"The cached {file} is damaged: {str(seen['problem'])[:60]}; {advice}"[:200],
            Certainty.CONFIRMED,
            what="The file is in the Hub's cache, so it is not fetched again, and each load fails on the same bytes.",
            why="A download that was killed, a full disk, or a cache that was copied without its blobs.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if scene.host is None or scene.cell is None:
            raise PlanError("The failing cell is not known here: delete the file by hand.")
        blob, size = str(fix.parameters["blob"]), int(fix.parameters["size"])
        return DeleteCacheEntry(scene.host, blob, fix.parameters["links"], size, reruns=(scene.cell,))
