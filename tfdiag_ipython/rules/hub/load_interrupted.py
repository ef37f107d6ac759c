from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe
from tfdiag_ipython.probes.hub_wait import WAITS, HubWaitProbe, stage
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules.hub._causes import REMEDIES, find_cause
from tfdiag_ipython.rules.hub._examples import CACHED, INTERRUPTED, ONLINE, SILENT
from tfdiag_ipython.rules.hub._remedies import OFFERS, cache_fixes, cache_told, plan_remedy

LIKE: Mapping[str, str] = {"resolve": "dns", "connect": "time-out", "tls": "time-out", "read": "time-out"}
"""The cause (see ``REMEDIES``) that looks like this wait."""


class LoadInterrupted(Rule):
    """A load from the Hub hung, and was interrupted.

    *What it means*
    The program stood in the Hub's client and waited. Nothing had failed yet, so no error says what was the matter.

    *Why it happens*
    A firewall that drops packets instead of refusing them, a Hub or proxy that accepts and does not answer, retries (five for each file,
    with pauses), or another process that holds the lock of the same download. Some requests of the library have no time-out at all.

    *How tfdiag confirms it*
    The frames of the interrupt lead through huggingface_hub and end where a program waits: name resolution, connection, TLS, an answer,
    the pause between two tries, a lock. Their values say for what and for how long; the cache folder of this one repository is looked at.

    *Fixes and their safety*
    `go-offline` and `local-files-only` (safe: the cached files, not asked for newer ones), where the cache has what was wanted.

    *Example*
    `AutoModel.from_pretrained("bert-base-uncased")` on a machine whose firewall drops packets, stopped after a minute.

    *References*
    huggingface_hub: `utils/_http.py`, `http_backoff`; `file_download.py`, `http_get`; `utils/_fixes.py`, `WeakFileLock`.
    """

    code = "HUB006"
    name = "load-interrupted"
    raised = ("builtins.KeyboardInterrupt",)
    message = re.compile("")
    specific = True  # asks for the frames
    needs = (HubWaitProbe, HubCacheProbe)
    fixes = OFFERS
    links = (Link("Offline mode", "https://huggingface.co/docs/transformers/installation#offline-mode"),)
    CASES = (
        Match(
            text="Traceback (most recent call last):\n"
            '  File "/x/transformers/utils/hub.py", line 9, in cached_files\n    hf_hub_download(\n'
            '  File "/x/huggingface_hub/file_download.py", line 9, in hf_hub_download\n    get()\n'
            '  File "/x/huggingface_hub/utils/_http.py", line 9, in http_backoff\n    response = client.request()\n'
            '  File "/x/httpcore2/_backends/sync.py", line 9, in read\n    return self._sock.recv(max_bytes)\nKeyboardInterrupt',
            certainty=Certainty.LIKELY,
            title="Interrupted while it waited for an answer from the Hub",
        ),
        Match(
            text="Traceback (most recent call last):\n"
            '  File "/x/huggingface_hub/file_download.py", line 9, in hf_hub_download\n    with WeakFileLock(lock_path):\n'
            '  File "/x/huggingface_hub/utils/_fixes.py", line 99, in WeakFileLock\n    lock.acquire()\n'
            '  File "/x/filelock/_api.py", line 9, in acquire\n    time.sleep(poll_interval)\nKeyboardInterrupt',
            title="another download of this file",
        ),
        NoMatch(
            text='Traceback (most recent call last):\n  File "/app/train.py", line 3, in <module>\n    time.sleep(9)\nKeyboardInterrupt'
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/x/huggingface_hub/inference/_client.py", line 9, in text_generation\n    self._inner_post()\n'
            '  File "/x/httpcore/_backends/sync.py", line 9, in read\n    return self._sock.recv(max_bytes)\nKeyboardInterrupt'
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/x/transformers/modeling_utils.py", line 9, in from_pretrained\n    cls._load_pretrained_model()\n'
            '  File "/x/torch/nn/modules/module.py", line 9, in load\n    copy()\nKeyboardInterrupt'
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/app/crawl.py", line 3, in get\n    return client.get(url)\n'
            '  File "/usr/lib/python3.11/socket.py", line 9, in readinto\n    return self._sock.recv_into(b)\nKeyboardInterrupt'
        ),
        Reproduce(
            (SILENT, CACHED, INTERRUPTED, "tokenizer = AutoTokenizer.from_pretrained('acme/tiny-bert')"),
            title=r"Interrupted while it waited for an answer from 127\.0\.0\.1:\d+.* is in the local cache: go offline",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("go-offline"), Try("local-files-only")),
            environment=ONLINE,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        handled = failure.chain[1].name if len(failure.chain) > 1 else ""
        waits_for = stage(failure.top.frames, handled) if failure.top.is_a("KeyboardInterrupt") else ""
        if not waits_for:
            return None
        waited, cached = evidence[HubWaitProbe.name], evidence[HubCacheProbe.name]
        place = str(
            waited.get("place") or re.sub("(?i)^https?://", "", str(cached.get("endpoint", "")))[:80] or "the Hub"
        )
        title = f"{_since(waited)} while it waited {WAITS[waits_for].format(place=place)}{_which(waited, cached)}"
        held = cache_told(cached.facts)
        offline = bool(cached.get("complete")) and not cached.get("offline")
        title += f"; {held}" if held else ""
        fixes: tuple[Fix, ...] = cache_fixes(self, cached.facts)
        return self.found(
            f"{title[:187]}: go offline" if offline else title[:200],
            Certainty.CONFIRMED if waited else Certainty.LIKELY,
            what="The program stood in the Hub's client and waited; nothing had failed yet.",
            why=_why(failure, waits_for, waited),
            evidence=(*waited.seen, *cached.seen),
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_remedy(fix, scene)


def _since(waited: Evidence) -> str:
    seconds = float(waited.get("seconds", 0.0))
    return f"Interrupted after {seconds:.0f} s" if seconds >= 1 else "Interrupted"


def _which(waited: Evidence, cached: Evidence) -> str:
    """The file that was waited for, and how much of it had come."""
    files = tuple(cached.get("files", ()))
    came, size = waited.get("came"), waited.get("size")
    arrived = f": {came:,}{f' of {size:,}' if size else ''} bytes had come" if came is not None else ""
    return f" ({str(files[0])[:60]}{arrived})" if files else ""


def _why(failure: Failure, waits_for: str, waited: Evidence) -> str:
    if waits_for == "lock":
        return (
            "Another process or thread downloads the same file, or one that died left its lock behind on a shared disk."
        )
    limit, tries = waited.get("limit"), waited.get("tries", 0)
    told = "This request has no time-out: it would have waited for ever. " if limit == 0 else ""
    if limit and tries:
        told = f"Try {tries} of {waited['most_tries'] + 1}; each waits up to {limit:g} s, and the library pauses between them. "
    if waits_for == "pause":
        earlier = find_cause(failure.chain[1:])
        why = REMEDIES.get(earlier.kind, "Earlier tries failed; the library's own log line says how.")
        return (
            f"Try {tries} of {waited['most_tries'] + 1} had failed; the next was {waited['pause']:g} s away. {why}"
            if tries
            else why
        )
    return told + REMEDIES.get(LIKE.get(waits_for, ""), "`%tfdiag probe hub` tries the connection step by step.")
