from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.hub_room import HubRoomProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule
from tfdiag_ipython.sizes import file_size

_CACHE = r"[^'\n]*(?:[/\\.]huggingface\b|[/\\](?:models|datasets|spaces)--)[^'\n]*"
_DOWNLOAD = re.compile(r"[/\\]huggingface_hub[/\\](?:file_download|_snapshot_download)\.py$")
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
    The refused path is one of the cache's, or the error comes out of a download; its number says why. It looks how much room there is.

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
        r"|\[Errno (?P<bare>28|122)\] (?:No space left on device|Disk quota exceeded)\Z"
        r"|problem when trying to write in your cache folder \((?P<folder>[^)\n]{1,600})\)"
    )
    needs = (HubRoomProbe,)
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
        Match(
            text="Traceback (most recent call last):\n"
            '  File "/x/huggingface_hub/file_download.py", line 9, in http_get\n    temp_file.write(chunk)\n'
            "OSError: [Errno 28] No space left on device",
            evidence={
                "hub-room": {"folder": "/srv/hub", "file": "model.safetensors", "needed": 5 * 10**9, "free": 10**6}
            },
            certainty=Certainty.CONFIRMED,
            title=r"The disk is full: model\.safetensors needs 5 GB, and `/srv/hub` has 1 MB left",
        ),
        NoMatch(text="PermissionError: [Errno 13] Permission denied: '/srv/.cache/pip'"),
        NoMatch(text="OSError: [Errno 28] No space left on device"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["bare"]:
            return self._full(failure, hit["bare"], evidence[HubRoomProbe.name])
        place = (hit["path"] or hit["folder"])[-100:]
        reason = WORDS.get(hit["number"], "the folder is missing or belongs to another user")
        return self.found(
            f"The Hub's cache `{place}` cannot be written to: {reason}",
            Certainty.LIKELY,
            what="Files from the Hub are kept in a cache folder; the system refused to write there.",
            why="Set HF_HOME to a folder of yours with room, before transformers is imported, and restart the kernel.",
        )

    def _full(self, failure: Failure, number: str, seen: Evidence) -> Diagnosis | None:
        """The system names no path: that a download was being written must show in the frames."""
        if not any(_DOWNLOAD.search(frame.file) for frame in failure.top.frames):
            return None
        title = f"{WORDS[number][0].upper()}{WORDS[number][1:]}: a download from the Hub could not be written"
        if seen:
            needs = (
                f"{str(seen['file'])[-60:]} needs {file_size(seen['needed'])}" if seen["needed"] else "a download ended"
            )
            folder = str(seen["folder"])
            room = f"`{folder if len(folder) <= 80 else '…' + folder[-80:]}` has {file_size(seen['free'])} left"
            title = f"{WORDS[number][0].upper()}{WORDS[number][1:]}: {needs}, and {room}"
        return self.found(
            title[:200],
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="Files from the Hub are kept in a cache folder; its disk has no room for this one.",
            why="Pass cache_dir= with a folder on a larger disk (HF_HOME counts only before the import), or make room: `hf cache ls`.",
            evidence=seen.seen,
        )
