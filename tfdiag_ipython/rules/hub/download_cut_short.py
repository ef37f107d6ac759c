from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.hub._examples import ONLINE, SERVER
from tfdiag_ipython.rules.hub._remedies import AGAIN, plan_remedy

SHORTENED = (
    SERVER.replace(
        "status, headers, body = answer(self.path)", "status, headers, body = answer(self.path, self.command)"
    )
    + """
asked = []
def answer(path, method):
    asked.extend(["file"] if method == "GET" and "/resolve/" in path else [])
    whole = len(asked) % 2 == 0
    return 200, {"ETag": '"1"', "X-Repo-Commit": "01234567" * 5}, b'{"a": 1}' if method == "HEAD" or whole else b'{"a"'
hub = os.environ["HF_ENDPOINT"]
from huggingface_hub import hf_hub_download
"""
)
"""A Hub whose first answer, and third, ends too early."""


class DownloadCutShort(Rule):
    """A file arrived from the Hub with another size than the Hub had told.

    *What it means*
    huggingface_hub compares what arrived with what was announced, and throws a file away that is too short or too long.

    *Why it happens*
    The connection was cut, a proxy answered with a page of its own, or the disk is full.

    *How tfdiag confirms it*
    It reads both sizes from the message.

    *Fixes and their safety*
    `download-again` (safe) writes `force_download=True` into the call: what came before is not used again. Take it out afterwards.

    *Example*
    A download of 4.9 GB that ends after 1.2 GB.

    *References*
    huggingface_hub: `file_download.py`, `http_get`.
    """

    code = "HUB004"
    name = "download-cut-short"
    message = re.compile(r"Consistency check failed: file should be of size (?P<wanted>\d+) but has size (?P<came>\d+)")
    needs = (HubCacheProbe,)
    fixes = (Offer(AGAIN, Applicability.SAFE),)
    CASES = (
        Match(
            text="OSError: Consistency check failed: file should be of size 976698672 but has size 1253045 (model.safetensors).\n"
            "We are sorry for the inconvenience. Please retry with `force_download=True`.",
            certainty=Certainty.LIKELY,
            title="1,253,045 of 976,698,672 bytes",
        ),
        Match(
            text="OSError: Consistency check failed: file should be of size 570 but has size 9041 (config.json).",
            title="9,041 bytes .* instead of 570",
        ),
        Reproduce(
            (
                SHORTENED,
                "path = hf_hub_download('acme/tiny-bert', 'config.json', endpoint=hub, cache_dir=tempfile.mkdtemp())",
            ),
            title="The download of config.json of `acme/tiny-bert` broke off: 4 of 8 bytes arrived",
            certainty=Certainty.CONFIRMED,
            fixes=(Try(AGAIN),),
            needs=("huggingface_hub",),
            environment=ONLINE,
            isolated=True,
        ),
        NoMatch(text="AssertionError: Consistency check failed: 3 replicas differ"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        wanted, came = int(hit["wanted"]), int(hit["came"])
        seen = evidence[HubCacheProbe.name]
        repo, files = str(seen.get("repo", "")), tuple(seen.get("files", ()))
        of = f"of {str(files[0])[:60]} of `{repo[:60]}`" if repo and files else "from the Hub"
        if came < wanted:
            title = f"The download {of} broke off: {came:,} of {wanted:,} bytes arrived"
        else:
            title = f"Something else came in place of the file: {came:,} bytes arrived instead of {wanted:,}"
        return self.found(
            title,
            Certainty.CONFIRMED if repo else Certainty.LIKELY,
            what="What arrived does not have the size that the Hub had told, and was thrown away.",
            why="The connection was cut, a proxy answered in the Hub's place, or the disk is full: try again with force_download=True.",
            evidence=seen.seen,
            fixes=(self._again(repo),) if repo else (),
        )

    def _again(self, repo: str) -> Fix:
        told = "Adds `force_download=True`: what came before is not used again. Take it out when it has worked: it downloads each time."
        return self.offer(AGAIN, "Download it again, in this call", told, repo=repo)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_remedy(fix, scene)
