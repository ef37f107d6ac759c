from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix, Link, Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe
from tfdiag_ipython.probes.hub_certificates import HubCertificatesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import HUB_CLIENT, passes
from tfdiag_ipython.rules.hub._causes import Cause, find_cause
from tfdiag_ipython.rules.hub._examples import ANSWERING, CACHED, GATEWAY, NO_WAITS, ONLINE, PROXY
from tfdiag_ipython.rules.hub._remedies import (
    ELSEWHERE,
    OFFERS,
    cache_fixes,
    elsewhere_fix,
    online_fix,
    plan_remedy,
)
from tfdiag_ipython.rules.hub._remedies import ONLINE as ONLINE_OFFER
from tfdiag_ipython.rules.hub._tls_example import CERTIFICATE_VARIABLES, INSPECTED
from tfdiag_ipython.rules.hub._told import unreachable_title, unreachable_why
from tfdiag_ipython.rules.hub._trust import TRUST, UNTRUSTED, plan_trust, trust_fix

NOTHING_CACHED = {
    "repo": "acme/tiny",
    "repo_type": "model",
    "files": ("config.json",),
    "revision": "main",
    "kind": "model",
    "path": False,
    "cache": "/srv/hub",
    "commit": "",
    "snapshots": (),
    "complete": False,
    "nearest": "",
    "offline": False,
}
REFUSED = f"{NO_WAITS}from huggingface_hub import hf_hub_download"
DOWNLOAD = "hf_hub_download('acme/tiny-bert', 'config.json')"
ANSWERS = re.compile(r"[/\\]huggingface_hub[/\\](?:hf_api|utils[/\\]_pagination)\.py$")
"""Where the Hub's answers, which are JSON, are read."""
TOLD_APART = {"RevisionNotFoundError", "GatedRepoError", "EntryNotFoundError", "RemoteEntryNotFoundError"}
INFERENCE = re.compile(r"[/\\]huggingface_hub[/\\]inference[/\\]")
PUBLIC = re.compile(r"(?:[\w.-]+\.)?(?:huggingface\.co|hf\.co)")


class HubUnreachable(Rule):
    """The Hub could not be reached, or something on the way answered in its place.

    *What it means*
    The library asked the Hub for a file and got none. Even a file that is in the cache makes it ask: whether there is a newer one, and
    for optional files that were never downloaded.

    *Why it happens*
    No network, a name that does not resolve, a proxy or gateway, a certificate that is not trusted, a time-out, trouble at the Hub, or
    offline mode. The message at the top is the same for most of them.

    *How tfdiag confirms it*
    It reads the causes down the exception chain, which tell these apart, and looks at the library's switches, the proxy variables and
    the cache folder of this one repository. `%tfdiag probe hub` tries the connection step by step.

    *Fixes and their safety*
    `go-offline` (safe: the cached files, not asked for newer ones) sets the environment variable *and* the switch that the library read
    from it on import. `local-files-only` (safe) says the same for one call. `go-online` (unsafe: somebody wanted no network) goes back.
    `trust-certificate-file` (unsafe: who else is believed?) names to the Hub's client a certificate file of this machine that verifies
    what the Hub shows; who signed it is looked up first.

    *Example*
    `AutoTokenizer.from_pretrained("bert-base-uncased")` behind a gateway that wants a login.

    *References*
    transformers: `utils/hub.py`, `cached_files`; huggingface_hub: `file_download.py`, `constants.py`, `utils/_http.py`.
    """

    code = "HUB001"
    name = "hub-unreachable"
    kinds = ("exception", "check")
    message = re.compile(
        r"[Cc]ouldn't connect to '(?P<endpoint>[^']+)' to load (?:this file|the files|this model)"
        r"|(?P<uncached>Connection error, and we cannot find the requested files in the (?:cached path|disk cache))"
        r"|specific connection error when trying to load [^\s:]+"
        r"|Cannot reach (?P<offline>https?://[^\s/]*[^\s/:])"
        r"|outgoing traffic has been disabled"
        r"|error happened while trying to locate the files? on the Hub"
        r"|Couldn't reach server at '(?P<server>https?://[^'\s]+)' to download"  # transformers 2
        r"|host=\W{1,3}(?P<host>(?:[\w.-]+\.)?(?:huggingface\.(?:co|tech)|hf\.co))\b[^,\n]{0,40}, port=\d+"
        r"|host='(?P<mirror>[\w.-]+)', port=(?P<port>\d+)\): Max retries exceeded with url: /(?:api/models/|[\w.-]+/[\w.-]+/resolve/)"
        r"|\b(?:5\d\d Server|429 Client) Error: [\w -]{1,40} for url: https://(?P<url>(?:[\w.-]+\.)?(?:huggingface\.co|hf\.co))/"
        r"|\b(?:Client|Server) [Ee]rror[: '\w-]{1,60} for url:? '?https?://(?P<answered>[\w.:-]+)/"
        r"(?:api/(?:models|datasets|spaces)/|(?:[^\s/]+/){1,3}resolve/)"
        r"|Connection to (?P<storage>(?:[\w.-]+\.)?(?:huggingface\.co|hf\.co)) timed out"
        r"|Data processing error: CAS service error"  # hf_xet
        r"|Couldn't reach https://(?P<scripts>raw\.githubusercontent\.com)/huggingface/"  # datasets 1
        r"|Distant resource does not seem to be on"
        r"|Couldn't reach \S+ on the Hub \(\w+"
        r"|(?P<bare>[Nn]ame resolution|Name or service not known|nodename nor servname|getaddrinfo failed|Connection refused"
        r"|\('Connection aborted\.'|Connection broken: \w+|Network is unreachable|Server disconnected|peer closed connection"
        r"|No route to host|Connection reset by peer|CERTIFICATE_VERIFY_FAILED|\[SSL: \w+\]|[Tt]imed out|Cannot connect to proxy|Proxy Authentication Required|Tunnel connection failed)"
        r"|\A(?P<json>Expecting value: line \d+ column \d+)"
        r"|(?P<vague>Can't load (?:tokenizer|feature extractor|image processor|processor|the configuration) (?:for|of) ')"
    )
    needs = (HubCacheProbe, HubCertificatesProbe)
    fixes = (*OFFERS, ONLINE_OFFER, ELSEWHERE, TRUST)
    links = (Link("Offline mode", "https://huggingface.co/docs/transformers/installation#offline-mode"),)
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
            text="OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files.",
            evidence={"hub-cache": NOTHING_CACHED},
            title="the local cache holds nothing of `acme/tiny`",
            fixes=("fetch-elsewhere",),
        ),
        Match(
            text="requests.exceptions.HTTPError: 504 Server Error: Gateway Time-out for url: https://huggingface.co/a/b/resolve/main/vocab.json",
            title="HTTP 504",
        ),
        Match(
            text="huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/a/b/refs: offline mode is "
            "enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.",
            title="Offline mode",
        ),
        Match(
            text="INFO worker 3 timed out\nOSError: There was a specific connection error when trying to load acme/tiny:\n403 Client Error: "
            "Forbidden for url: https://hub.example.org/acme/tiny/resolve/main/config.json",
            title=r"hub\.example\.org answered HTTP 403",
        ),
        Match(
            text="Traceback (most recent call last):\n"
            '  File "/venv/site-packages/huggingface_hub/hf_api.py", line 9, in model_info\n    r = get_session().get(path)\n'
            "httpx.ConnectError: [Errno -2] Name or service not known",
            title="its name did not resolve",
        ),
        Match(
            text="OSError: Couldn't reach server at 'https://s3.amazonaws.com/models.huggingface.co/bert/tiny-vocab.txt' to download "
            "vocabulary files.",
            title="s3.amazonaws.com could not be reached",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/huggingface_hub/file_download.py", line 7, in http_get\n    read()\n'
            "requests.exceptions.ChunkedEncodingError: ('Connection broken: IncompleteRead(9 bytes read)', IncompleteRead(9 bytes read))",
            title="the connection was cut",
        ),
        Match(
            text="RuntimeError: Data processing error: CAS service error : Reqwest Error: HTTP status client error (429 Too Many Requests)",
            title="could not be reached|answered",
        ),
        Match(
            text="ConnectionError: Couldn't reach https://raw.githubusercontent.com/huggingface/datasets/1.2.1/datasets/race/race.py"
        ),
        NoMatch(
            text="requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote end closed'))"
        ),
        Match(
            text="requests.exceptions.SSLError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: "
            "/a/b/resolve/main/x (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed')))",
            title="its TLS certificate is not trusted here",
        ),
        Match(
            text="ConnectionError: Couldn't reach 'acme/reviews' on the Hub (ConnectTimeout)",
            title="it did not answer in time",
        ),
        NoMatch(
            text="requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.example.org', port=443): Max retries exceeded"
        ),
        NoMatch(
            text="requests.exceptions.HTTPError: 503 Server Error: Unavailable for url: https://example.org/huggingface.co/"
        ),
        NoMatch(text="socket.gaierror: [Errno -2] Name or service not known"),
        Match(
            text="Traceback (most recent call last):\n"
            '  File "/x/transformers/utils/hub.py", line 9, in list_repo_templates\n    for entry in list_repo_tree(\n'
            '  File "/x/huggingface_hub/utils/_pagination.py", line 38, in paginate\n    yield from r.json()\n'
            "requests.exceptions.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            title="something else answered in its place",
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/x/transformers/configuration_utils.py", line 9, in _dict_from_json_file\n    return json.loads(text)\n'
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/venv/site-packages/transformers/image_utils.py", line 9, in load_image\n    requests.get(image)\n'
            "requests.exceptions.ConnectionError: HTTPConnectionPool(host='images.example.org', port=80): Max retries exceeded with url: "
            "/cat.png (Caused by NameResolutionError(\"Failed to resolve 'images.example.org' ([Errno -2] Name or service not known)\"))"
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/app/crawl.py", line 3, in get\n    return client.get(url)\nhttpx.ReadTimeout: The read operation timed out'
        ),
        NoMatch(
            text="Traceback (most recent call last):\n"
            '  File "/venv/site-packages/huggingface_hub/inference/_client.py", line 9, in _inner_post\n    response = client.post(url)\n'
            "httpx.ReadTimeout: The read operation timed out"
        ),
        Reproduce(
            (GATEWAY, CACHED, "tokenizer = AutoTokenizer.from_pretrained('acme/tiny-bert')"),
            title=r"127\.0\.0\.1:\d+ answered HTTP 401 .* the tokenizer of `acme/tiny-bert` is in the local cache: go offline",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("go-offline"), Try("local-files-only")),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (ANSWERING, "import huggingface_hub", "info = huggingface_hub.model_info('acme/tiny-bert')"),
            title="Offline mode is on .* holds nothing of `acme/tiny-bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("go-online"),),
            needs=("huggingface_hub",),
            environment={**ONLINE, "HF_HUB_OFFLINE": "1"},
            isolated=True,
        ),
        Reproduce(
            (
                "from huggingface_hub import snapshot_download",
                "snapshot_download('acme/never-downloaded', local_files_only=True)",
            ),
            title=r"Only local files were allowed \(`local_files_only=True`\), and .* holds nothing of `acme/never-downloaded`",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (REFUSED, DOWNLOAD),
            title=r"127\.0\.0\.1:9 could not be reached: the connection was refused; .* holds nothing of `acme/tiny-bert`",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment={**ONLINE, "HF_ENDPOINT": "http://127.0.0.1:9"},
            isolated=True,
        ),
        Reproduce(
            (REFUSED, DOWNLOAD),
            title=r"hub\.invalid could not be reached: its name did not resolve",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment={**ONLINE, "HF_ENDPOINT": "http://hub.invalid"},
            isolated=True,
        ),
        Reproduce(
            (REFUSED, DOWNLOAD),
            title=r"hub\.example could not be reached: the proxy in HTTPS_PROXY did not let it through",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment={**ONLINE, "HF_ENDPOINT": "https://hub.example", "HTTPS_PROXY": "http://127.0.0.1:9"},
            isolated=True,
        ),
        Reproduce(
            (PROXY, REFUSED, DOWNLOAD),
            title=r"hub\.example could not be reached: the proxy in HTTPS_PROXY wants a login \(HTTP 407\)",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment={**ONLINE, "NO_PROXY": None, "no_proxy": None, "https_proxy": None},
            isolated=True,
        ),
        Reproduce(
            (
                GATEWAY + 'os.environ["HF_ENDPOINT"] = os.environ["HF_ENDPOINT"].replace("http:", "https:")',
                REFUSED,
                DOWNLOAD,
            ),
            title=r"127\.0\.0\.1:\d+ could not be reached: TLS failed",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (INSPECTED, REFUSED, DOWNLOAD.replace(")", ", force_download=True)")),
            title=r"127\.0\.0\.1:\d+ could not be reached: its TLS certificate is not trusted here",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("trust-certificate-file"),),
            needs=("huggingface_hub",),
            environment={**ONLINE, **CERTIFICATE_VARIABLES},
            isolated=True,
        ),
        Reproduce(
            (INSPECTED, REFUSED),
            probe="hub",
            title=r"could not be reached: its TLS certificate is signed by Acme TLS Inspection \(Acme Corporation\), not trusted here",
            certainty=Certainty.CONFIRMED,
            needs=("huggingface_hub",),
            environment={**ONLINE, **CERTIFICATE_VARIABLES},
            isolated=True,
        ),
        Reproduce(
            ("",),
            probe="hub http://127.0.0.1:9",
            title=r"127\.0\.0\.1:9 could not be reached: the connection was refused",
            certainty=Certainty.CONFIRMED,
            needs=(),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if failure.top.is_a("KeyboardInterrupt"):
            return None  # somebody stopped it: HUB006 says what it waited for
        if any(raised.name in TOLD_APART for raised in failure.chain):
            return None  # the Hub, or a mirror, was reached and has said what it lacks
        seen = evidence[HubCacheProbe.name]
        cause = find_cause(failure.chain[hit.position :])
        if hit["json"]:
            if not any(ANSWERS.search(frame.file) for frame in hit.raised.frames):
                return None
            cause = Cause("portal", quote=f"{hit.raised.name}: {hit.raised.message}"[:300])
        if (hit["bare"] or hit["vague"]) and not (cause.kind and _asked_the_hub(failure)):
            return None
        if hit["vague"] and cause.kind in {"status", "switch", "local-only"}:
            return None
        address = next(
            (
                hit[group]
                for group in (
                    "endpoint",
                    "server",
                    "offline",
                    "host",
                    "mirror",
                    "url",
                    "answered",
                    "storage",
                    "scripts",
                )
                if hit[group]
            ),
            "",
        )
        found = re.search(r"for url:? '?(https?://[^/\s']+)", cause.quote) if cause.kind == "status" else None
        address = (found[1] if found else address) or str(
            failure.facts.get("endpoint") or seen.get("endpoint") or "The Hub"
        )
        place = re.sub(r"^https?://", "", address).split("/")[0].rpartition("@")[2][:80]  # never a login
        place += f":{hit['port']}" if address == hit["mirror"] and hit["port"] not in {"", "80", "443"} else ""
        if cause.status in {401, 403, 404} and PUBLIC.fullmatch(place):
            return None  # the Hub itself refuses: that is no matter of reaching it
        if cause.kind == "local-only" and seen.get("offline"):
            cause = Cause("switch", quote=cause.quote)
        proxy = str(failure.facts.get("proxy") or seen.get("proxy", ""))
        told = cause.told(place, proxy)
        signed = str(failure.facts.get("signer", ""))
        title = unreachable_title(
            told.replace("is not", f"is signed by {signed}, not") if signed else told, cause, hit, seen
        )
        live = bool(seen or failure.facts) and bool(cause.kind)
        return self.found(
            title,
            Certainty.CONFIRMED if live else Certainty.LIKELY,
            what="The library asked the Hub for a file and got none.",
            why=unreachable_why(cause, seen),
            evidence=(*_steps(failure), *seen.seen) if failure.kind == "check" else (*seen.seen, *_quoted(cause)),
            fixes=(*self._trust(failure, cause, place, evidence), *self._fixes(cause, seen)),
        )

    def _trust(self, failure: Failure, cause: Cause, place: str, evidence: Mapping[str, Evidence]) -> tuple[Fix, ...]:
        if cause.kind != "tls" or not UNTRUSTED.search(cause.quote):
            return ()
        return trust_fix(
            self, f"https://{place}", evidence[HubCertificatesProbe.name].facts, display=failure.kind == "check"
        )

    def _fixes(self, cause: Cause, seen: Evidence) -> tuple[Fix, ...]:
        fixes = cache_fixes(self, seen.facts)
        if cause.kind == "switch" and seen.get("offline") and not seen.get("complete"):
            fixes += (online_fix(self),)
        return (*fixes, *elsewhere_fix(self, seen.facts))

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_trust(fix, scene) if fix.id == TRUST.id else plan_remedy(fix, scene)


def _asked_the_hub(failure: Failure) -> bool:
    """Whether the traceback leads through the Hub's client: other code, and its inference client, ask other hosts."""
    return passes(failure, HUB_CLIENT) and not passes(failure, INFERENCE)


def _quoted(cause: Cause) -> tuple[Observation, ...]:
    return (Observation("cause", cause.quote, "exception chain"),) if cause.quote else ()


def _steps(failure: Failure) -> tuple[Observation, ...]:
    """What `%tfdiag probe hub` tried."""
    endpoint = str(failure.facts.get("endpoint", ""))
    return tuple(
        Observation(name, f"{told} ({ms:.0f} ms)", endpoint) for name, told, ms in failure.facts.get("steps", ())
    )
