from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class DownloadCutShort(Rule):
    """A file arrived from the Hub with another size than the Hub had told.

    *What it means*
    huggingface_hub compares what arrived with what was announced, and throws a file away that is too short or too long.

    *Why it happens*
    The connection was cut, a proxy answered with a page of its own, or the disk is full.

    *How tfdiag confirms it*
    It reads both sizes from the message.

    *Fixes and their safety*
    None is carried out: load again with `force_download=True`.

    *Example*
    A download of 4.9 GB that ends after 1.2 GB.

    *References*
    huggingface_hub: `file_download.py`, `http_get`.
    """

    code = "HUB004"
    name = "download-cut-short"
    message = re.compile(r"Consistency check failed: file should be of size (?P<wanted>\d+) but has size (?P<came>\d+)")
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
        NoMatch(text="AssertionError: Consistency check failed: 3 replicas differ"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        wanted, came = int(hit["wanted"]), int(hit["came"])
        if came < wanted:
            title = f"The download from the Hub broke off: {came:,} of {wanted:,} bytes arrived"
        else:
            title = f"Something else came in place of the file: {came:,} bytes arrived instead of {wanted:,}"
        return self.found(
            title,
            Certainty.LIKELY,
            what="What arrived does not have the size that the Hub had told, and was thrown away.",
            why="The connection was cut, a proxy answered in the Hub's place, or the disk is full: try again with force_download=True.",
        )
