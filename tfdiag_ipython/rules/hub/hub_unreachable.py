from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule

REFUSED = """
import huggingface_hub.utils._http as http
class Clock:
    time, sleep = staticmethod(http.time.time), staticmethod(lambda seconds: None)  # no waits between the five tries
http.time = Clock
from transformers import AutoConfig
"""
CAUSES = (
    (r"offline mode is enabled|OfflineModeIsEnabled", "offline mode is switched on (HF_HUB_OFFLINE)"),
    (r"ProxyError|[Cc]annot connect to proxy|Tunnel connection failed", "the proxy refused the connection"),
    (r"SSLError|CERTIFICATE_VERIFY_FAILED|\[SSL", "the TLS certificate or handshake failed"),
    (
        r"[Nn]ame resolution|Name or service not known|nodename nor servname|getaddrinfo failed",
        "its name did not resolve",
    ),
    (r"Connection refused|WinError 10061", "the connection was refused"),
    (r"[Tt]imed? ?out|ReadTimeout|ConnectTimeout", "it did not answer in time"),
    (r"Connection reset|RemoteDisconnected|ConnectionResetError", "the connection was cut"),
    (r"\b(?P<status>5\d\d|429|403) (?:Server|Client) Error", "it answered HTTP {status}"),
)


class HubUnreachable(Rule):
    """The Hub could not be reached, and what was asked for is not in the local cache.

    *What it means*
    The library asked the Hub for a file, got no answer, and found no copy of the file in its cache.

    *Why it happens*
    No network, a name that does not resolve, a proxy or firewall, a certificate that is not trusted, a time-out, or offline mode.

    *How tfdiag confirms it*
    It reads the causes further down the chain, which tell these apart; the top message is the same for all of them.

    *Fixes and their safety*
    None is carried out.

    *Example*
    `AutoModel.from_pretrained("bert-base-uncased")` on a machine without a network.

    *References*
    transformers: `utils/hub.py`, `cached_files`; huggingface_hub: `file_download.py`.
    """

    code = "HUB001"
    name = "hub-unreachable"
    message = re.compile(
        r"We couldn't connect to '(?P<endpoint>[^']+)' to load (?:this file|the files|this model)"
        r"|Connection error, and we cannot find the requested files in the (?:cached path|disk cache)"
        r"|Cannot reach (?P<offline>https?://\S+): offline mode is enabled"
        r"|host='(?P<host>(?:[\w.-]+\.)?(?:huggingface\.co|hf\.co))', port=\d+\)"
        r"|\b5\d\d Server Error: [\w -]{1,40} for url: https://(?P<url>(?:[\w.-]+\.)?(?:huggingface\.co|hf\.co))/"
    )
    CASES = (
        Match(
            text="OSError: We couldn't connect to 'https://huggingface.co' to load this file, couldn't find it in the cached files "
            "and it looks like acme/tiny is not the path to a directory containing a file named config.json.",
            certainty=Certainty.LIKELY,
            title="huggingface.co could not be reached",
        ),
        Match(
            text="ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api (Caused by "
            "NewConnectionError('Failed to establish a new connection: [Errno -3] Temporary failure in name resolution'))",
            title="its name did not resolve",
        ),
        Match(
            text="requests.exceptions.HTTPError: 504 Server Error: Gateway Time-out for url: https://huggingface.co/a/b/resolve/main/vocab.json",
            title="HTTP 504",
        ),
        Match(
            text="huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/a/b/refs: offline mode is "
            "enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.",
            title="offline mode",
        ),
        NoMatch(
            text="requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.example.org', port=443): Max retries exceeded"
        ),
        NoMatch(
            text="requests.exceptions.HTTPError: 503 Server Error: Unavailable for url: https://example.org/huggingface.co/"
        ),
        Reproduce(
            (REFUSED, "AutoConfig.from_pretrained('acme/tiny-bert')"),
            title="127.0.0.1:9 .*refused",
            certainty=Certainty.LIKELY,
            environment={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": None, "TRANSFORMERS_OFFLINE": None},
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        address = hit["endpoint"] or hit["offline"] or hit["host"] or hit["url"] or "the Hub"
        place = re.sub(r"^https?://", "", address).split("/")[0][:80]
        cause = ""
        for pattern, words in CAUSES:
            found = failure.says(pattern) or next((r for r in failure.chain if re.search(pattern, r.name)), None)
            if found:
                status = found.groupdict().get("status", "") if isinstance(found, re.Match) else ""
                cause = words.format(status=status)
                break
        told = f": {cause}" if cause else ", and the file is not in the local cache"
        return self.found(
            f"{place} could not be reached{told}",
            Certainty.LIKELY,
            what="The library asked the Hub for a file and got none.",
            why=f"Further down the chain: {cause}." if cause else "The text does not say what stopped the connection.",
        )
