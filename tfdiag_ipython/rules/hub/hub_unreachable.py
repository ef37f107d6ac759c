from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.addresses import is_web_address
from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix, Link, Observation
from tfdiag_ipython.failure import Failure, Frame, Raised
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe
from tfdiag_ipython.probes.hub_certificates import HubCertificatesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule
from tfdiag_ipython.rules._places import HUB_CLIENT, passes
from tfdiag_ipython.rules.hub._causes import BAD_TOKEN, UNSAID, Cause, find_cause, quote
from tfdiag_ipython.rules.hub._remedies import (
    ALLOWED,
    ELSEWHERE,
    OFFERS,
    REVISION,
    allow_fix,
    cache_fixes,
    elsewhere_fix,
    online_fix,
    plan_remedy,
    revision_fix,
    whole_revision,
)
from tfdiag_ipython.rules.hub._remedies import ONLINE as ONLINE_OFFER
from tfdiag_ipython.rules.hub._told import switch_told, unreachable_title, unreachable_why
from tfdiag_ipython.rules.hub._trust import TRUST, UNTRUSTED, plan_trust, trust_fix
from tfdiag_ipython.rules.hub._unreachable_cases import REPRODUCED

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
OWN = (Frame("/app/serve.py", "fetch", 3, "response.raise_for_status()"),)
FOLLOWED = 10
"""Redirects that huggingface_hub 0 has followed, each by a call inside the other, when it is called a circle."""
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
    from it on import. `local-files-only` (safe) says the same for one call; both only where the cache has all that the call needs.
    `use-cached-revision` (unsafe: it may be another state of the model) loads a revision that the cache has whole: what was downloaded by
    its commit is found by that commit only. `go-online` and `ask-the-hub` (unsafe: somebody wanted no network) go back.
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
        r"|\b(?:Client|Server) [Ee]rror[: '\w-]{1,60} for url:? '?https?://(?:[^\s/@]{1,300}@)?(?P<answered>[\w.:-]+)/"
        r"(?:api/(?:models|datasets|spaces)/|(?:[^\s/]+/){1,3}resolve/)"
        r"|Cannot access content at: https?://(?:[^\s/@]{1,300}@)?(?P<closed>[\w.:-]+)/"
        r"|Connection to (?P<storage>(?:[\w.-]+\.)?(?:huggingface\.co|hf\.co)) timed out"
        r"|Data processing error: CAS service error"  # hf_xet
        r"|Couldn't reach https://(?P<scripts>raw\.githubusercontent\.com)/huggingface/"  # datasets 1
        r"|Distant resource does not seem to be on"
        r"|Couldn't reach \S+ on the Hub \(\w+"
        r"|(?P<bare>[Nn]ame resolution|Name or service not known|nodename nor servname|getaddrinfo failed|Connection refused"
        r"|\('Connection aborted\.'|Connection broken: \w+|Network is unreachable|Server disconnected|peer closed connection"
        r"|No route to host|Connection reset by peer|CERTIFICATE_VERIFY_FAILED|\[SSL: \w+\]|[Tt]imed out|Cannot connect to proxy|Exceeded (?:\d+|maximum allowed) redirects"
        r"|Unknown scheme for proxy URL|\AInvalid port: '|suitable TLS CA certificate bundle|\A\[Errno 2\] No such file or directory\Z"
        r"|Proxy Authentication Required|Tunnel connection failed)"
        r"|(?P<circle>maximum recursion depth exceeded)"
        r"|\A(?P<json>Expecting value: line \d+ column \d+)"
        r"|(?P<vague>Can't load (?:tokenizer|feature extractor|image processor|processor|the configuration) (?:for|of) ')"
    )
    needs = (HubCacheProbe, HubCertificatesProbe)
    fixes = (*OFFERS, REVISION, ONLINE_OFFER, ALLOWED, ELSEWHERE, TRUST)
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
        *(
            NoMatch(
                failure=Failure(
                    "exception", (Raised(("requests.exceptions.HTTPError", "builtins.OSError"), message, frames=OWN),)
                )
            )
            for message in (
                "500 Server Error: Internal Server Error for url: http://127.0.0.1:8000/api/models/list",
                "HTTPConnectionPool(host='serving.example', port=80): Max retries exceeded with url: /api/models/x (Caused by "
                "NewConnectionError('[Errno 111] Connection refused'))",
            )
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
        *REPRODUCED,
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if failure.top.is_a("KeyboardInterrupt"):
            return None  # somebody stopped it: HUB006 says what it waited for
        if any(raised.name in TOLD_APART for raised in failure.chain):
            return None  # the Hub, or a mirror, was reached and has said what it lacks
        seen = evidence[HubCacheProbe.name]
        cause = find_cause(failure.chain[hit.position :])
        endpoint = str(seen.get("endpoint", ""))
        if cause.kind == "dns" and endpoint and not is_web_address(endpoint):
            return None  # no such name, for it is none: HUB009 says what it should be
        certificates = evidence[HubCertificatesProbe.name]
        if cause.kind == "ca-file" and not certificates.get("absent"):
            return None  # another file of no name
        if cause.kind == "proxy-value" and seen and not seen.get("unread_proxy"):
            return None
        if hit["json"]:
            if not any(ANSWERS.search(frame.file) for frame in hit.raised.frames):
                return None
            cause = Cause("portal", quote=quote(hit.raised, hit.raised.message))
        if hit["circle"]:
            if sum(frame.function == "_request_wrapper" for frame in hit.raised.frames) < FOLLOWED:
                return None
            cause = Cause("redirects", quote=quote(hit.raised, hit.raised.message))
        if (hit["bare"] or hit["vague"]) and not (cause.kind and _asked_the_hub(failure)):
            return None
        if (hit["mirror"] or hit["answered"]) and not failure.stored and not _asked_the_hub(failure):
            return None  # the person's own service, with paths like the Hub's
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
                    "closed",
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
        place = re.sub(r"(?i)^https?://", "", address).split("/")[0].rpartition("@")[2][:80]  # never a login
        place += f":{hit['port']}" if address == hit["mirror"] and hit["port"] not in {"", "80", "443"} else ""
        said = cause.status in {401, 404} or (cause.status == 403 and not failure.says(UNSAID))
        if failure.says(BAD_TOKEN) or (said and PUBLIC.fullmatch(place)):
            return None  # the Hub itself refuses: that is no matter of reaching it
        if cause.status == 404 and any(raised.name == "RepositoryNotFoundError" for raised in failure.chain):
            return None  # whoever it is says that there is no such repository
        if cause.kind == "local-only" and seen.get("offline"):
            cause = Cause("switch", quote=cause.quote)
        proxy = str(
            failure.facts.get("proxy") or seen.get("unread_proxy" if cause.kind == "proxy-value" else "proxy", "")
        )
        told = cause.told(place, proxy, switch=switch_told(seen))
        if cause.kind == "ca-file":
            told = (
                f"{place} cannot be asked: {certificates.get('variable')} names a certificate file that does not exist"
            )
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
        fixes = (*cache_fixes(self, seen.facts), *revision_fix(self, seen.facts, whole_revision(seen.facts)))
        if cause.kind == "switch" and seen.get("offline") and not seen.get("complete"):
            fixes += (online_fix(self),)
        if cause.kind == "local-only" and not seen.get("complete"):
            fixes += allow_fix(self, seen.facts)
        own = cause.kind in {"proxy-value", "ca-file"}  # a variable here is to be mended, and no network is lacking
        return fixes if own else (*fixes, *elsewhere_fix(self, seen.facts))

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_trust(fix, scene) if fix.id == TRUST.id else plan_remedy(fix, scene)


def _asked_the_hub(failure: Failure) -> bool:
    """Whether the traceback leads through the Hub's client: other code, and its inference client, ask other hosts."""
    return passes(failure, HUB_CLIENT) and not passes(failure, INFERENCE)


def _quoted(cause: Cause) -> tuple[Observation, ...]:
    shown = cause.quote and cause.kind != "proxy-value"  # it may quote a piece of a password
    return (Observation("cause", cause.quote, "exception chain"),) if shown else ()


def _steps(failure: Failure) -> tuple[Observation, ...]:
    """What `%tfdiag probe hub` tried."""
    endpoint = str(failure.facts.get("endpoint", ""))
    return tuple(
        Observation(name, f"{told} ({ms:.0f} ms)", endpoint) for name, told, ms in failure.facts.get("steps", ())
    )
