from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule

_CACHE = r"[^'\n]*(?:[/\\.]huggingface\b|[/\\](?:models|datasets|spaces)--)[^'\n]*"
WORDS = {
    "13": "this user may not write there",
    "28": "the disk is full",
    "30": "that file system is read-only",
    "122": "the disk quota is used up",
}


class CacheNotWritable(Rule):
    """The Hub's local cache cannot be written to.

    *What it means*
    What comes from the Hub is kept in a cache folder, and the system refused to write there.

    *Why it happens*
    The folder belongs to another user (a container that ran as root), lies on a read-only file system, or its disk or quota is full.

    *How tfdiag confirms it*
    The refused path is one of the cache's, and the error's number says why.

    *Fixes and their safety*
    None is carried out: set `HF_HOME` to a folder that can be written to, before transformers is imported.

    *Example*
    `PermissionError: [Errno 13] Permission denied: '/srv/.cache/huggingface/hub'`

    *References*
    huggingface_hub: environment variables, HF_HOME; transformers 4: `utils/hub.py`.
    """

    code = "HUB005"
    name = "cache-not-writable"
    raised = ("builtins.OSError",)
    message = re.compile(
        rf"\[Errno (?P<number>13|28|30|122)\] [^:\n]{{1,60}}: '(?P<path>{_CACHE})'"
        r"|problem when trying to write in your cache folder \((?P<folder>[^)\n]+)\)"
    )
    links = (Link("HF_HOME", "https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"),)
    CASES = (
        Match(
            text="PermissionError: [Errno 13] Permission denied: '/srv/.cache/huggingface/hub/models--acme--tiny/refs'",
            certainty=Certainty.LIKELY,
            title="may not write there",
        ),
        Match(text="OSError: [Errno 30] Read-only file system: '/home/me/.cache/huggingface'", title="read-only"),
        Match(
            text="There was a problem when trying to write in your cache folder (/.cache/huggingface/hub). You should set the environment "
            "variable TRANSFORMERS_CACHE to a writable directory.",
            title="`/.cache/huggingface/hub`",
        ),
        NoMatch(text="PermissionError: [Errno 13] Permission denied: '/srv/.cache/pip'"),
        NoMatch(text="OSError: [Errno 28] No space left on device"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        place = (hit["path"] or hit["folder"])[-100:]
        reason = WORDS.get(hit["number"], "the folder is missing or belongs to another user")
        return self.found(
            f"The Hub's cache `{place}` cannot be written to: {reason}",
            Certainty.LIKELY,
            what="Files from the Hub are kept in a cache folder; the system refused to write there.",
            why="Set HF_HOME to a folder of yours with room, before transformers is imported, and restart the kernel.",
        )
