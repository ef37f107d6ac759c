from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import HUB_CLIENT, passes

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
        r"[Nn]ame resolution|NameResolutionError|Name or service not known|nodename nor servname|getaddrinfo failed",
        "its name did not resolve",
    ),
    (r"Connection refused|WinError 10061", "the connection was refused"),
    (r"[Nn]etwork is unreachable|No route to host", "there is no network that leads to it"),
    (r"\b429 Client Error|429 Too Many Requests", "it answered HTTP 429: too many requests from this address or user"),
    (r"\b(?P<status>5\d\d|403) (?:Server|Client) Error", "it answered HTTP {status}"),
    (r"[Tt]imed? ?out|ReadTimeout|ConnectTimeout", "it did not answer in time"),
    (
        r"Connection reset|Connection aborted|Connection broken|IncompleteRead|RemoteDisconnected|ConnectionResetError"
        r"|peer closed connection|Server disconnected|Remote end closed",
        "the connection was cut",
    ),
)
_HOSTS = r"(?:[\w.-]+\.)?(?:huggingface\.(?:co|tech)|hf\.co|hf-mirror\.com)"
# what httpx, requests and the sockets below them say of any server: the traceback must lead through the Hub's client
_ANY_SERVER = (
    r"[Nn]ame resolution|Name or service not known|nodename nor servname|getaddrinfo failed|\('Connection aborted\.'"
    r"|Connection broken: \w+|[Tt]imed out|Connection refused|Network is unreachable|Server disconnected without"
    r"|peer closed connection|certificate verify failed|Cannot connect to proxy"
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
        r"[Cc]ouldn't connect to '(?P<endpoint>[^']+)' to load (?:this file|the files|this model)"
        r"|(?:Connection error,|on the Hub) and we cannot find the (?:requested files|appropriate snapshot folder)"
        r"|(?P<local>outgoing traffic has been disabled)"
        r"|Couldn't reach server at '(?P<server>https?://[^']+)' to download"
        r"|Cannot reach (?P<offline>https?://\S+): offline mode is enabled"
        rf"|host=\W{{1,3}}(?P<host>{_HOSTS})\b[^,\n]{{0,40}}, port=\d+"
        rf"|\b(?:5\d\d Server|429 Client) Error: [\w -]{{1,40}} for url: https://(?P<url>{_HOSTS})/"
        rf"|(?P<any>{_ANY_SERVER})"
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
        Match(
            text="huggingface_hub.errors.LocalEntryNotFoundError: Cannot find the requested files in the disk cache and outgoing traffic "
            "has been disabled. To enable hf.co look-ups and downloads online, set 'local_files_only' to False.",
            certainty=Certainty.LIKELY,
            title="not in the local cache.*not asked",
        ),
        Match(
            text="LocalEntryNotFoundError: An error happened while trying to locate the file on the Hub and we cannot find the requested "
            "files in the local cache. Please check your connection and try again.",
            title="could not be reached",
        ),
        Match(
            text="OSError: Couldn't reach server at 'https://s3.amazonaws.com/models.huggingface.co/bert/tiny-vocab.txt' to download "
            "vocabulary files.",
            title="s3.amazonaws.com could not be reached",
        ),
        Match(
            text="requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/a/b/resolve/main/x",
            title="too many requests",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/huggingface_hub/file_download.py", line 7, in hf_hub_download\n'
            "    metadata = get_hf_file_metadata(url)\nhttpx.ConnectError: [Errno 111] Connection refused",
            title="the Hub could not be reached: the connection was refused",
        ),
        NoMatch(
            text='Traceback (most recent call last):\n  File "/x/shop/client.py", line 7, in get\n    client.get(url)\n'
            "httpx.ConnectError: [Errno 111] Connection refused"
        ),
        NoMatch(text="socket.timeout: timed out"),
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
        if hit["any"] and not passes(failure, HUB_CLIENT):
            return None  # some other server's failure
        if hit["local"]:
            return self.found(
                "The file is not in the local cache, and the Hub was not asked: `local_files_only=True` or offline mode",
                Certainty.LIKELY,
                what="The library was told not to use the network, and the cache does not hold what it needs.",
                why="`local_files_only=True`, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE; or an earlier attempt to reach the Hub had failed.",
            )
        address = hit["endpoint"] or hit["server"] or hit["offline"] or hit["host"] or hit["url"] or "the Hub"
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
