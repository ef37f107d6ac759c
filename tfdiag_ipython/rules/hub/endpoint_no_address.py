from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from tfdiag_ipython.addresses import is_web_address, without_login
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.switch import SetSwitches, Switch
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import HUB_CLIENT, passes
from tfdiag_ipython.rules.hub._examples import ONLINE, SERVING

SCHEMELESS = SERVING.replace(
    "import pathlib", 'os.environ["HF_ENDPOINT"] = os.environ["HF_ENDPOINT"].partition("//")[2]\nimport pathlib', 1
)
QUOTED = SCHEMELESS.replace('os.environ["HF_ENDPOINT"].partition("//")[2]', "repr(os.environ['HF_ENDPOINT'])")
COPIES = ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE", "HUGGINGFACE_CO_RESOLVE_ENDPOINT")
"""Names under which modules of the Hub's client keep the address, or an address that begins with it."""
_HOW = re.compile(r"(?i)\A(?:[a-z]{2,9}[:;]?[/\\]{2,}|[a-z]{2,9}[:;]/|https?[:;](?!\d)|https?/|:?/{1,3})+")
"""How to connect, as it is misspelt."""
_AROUND = "'\"` \t\r\n"
LIKE_FRAMES = 'Traceback (most recent call last):\n  File "/x/huggingface_hub/utils/_http.py", line 9, in http_backoff\n    client.request()\n'


class EndpointNoAddress(Rule):
    """The Hub's address (`HF_ENDPOINT`) is no web address: mostly `https://` in front is missing.

    *What it means*
    The library puts the path of each file behind this address, and a request needs to be told how to connect.

    *Why it happens*
    `HF_ENDPOINT=hf-mirror.com`, a misspelt `htps://`, or quotes that became a part of the value. A call's own `endpoint=` has the same needs.

    *How tfdiag confirms it*
    The request came from the Hub's client, and the address that the library holds is not `http://` or `https://`, a host and a port.

    *Fixes and their safety*
    `set-endpoint` (unsafe: whether the server is asked over TLS is decided here) sets the variable and the address that the library read
    from it on import, with `https://`, and `http://` for this machine itself. A login in the address stays in it, and is not shown.

    *Example*
    `HF_ENDPOINT=hf-mirror.com`, then `AutoTokenizer.from_pretrained("bert-base-uncased")`.

    *References*
    huggingface_hub: `constants.py`, ENDPOINT; environment variables, HF_ENDPOINT.
    """

    code = "HUB009"
    name = "endpoint-no-address"
    message = re.compile(
        r"(?P<sure>missing an 'http://' or 'https://' protocol|unsupported protocol '|No scheme supplied|No connection adapters were found for ['\"])"
        r"|Port could not be cast to integer value|Port out of range|\AInvalid port: '|'idna' codec failed|[Nn]ame resolution|Name or service not known"
        r"|nodename nor servname|getaddrinfo failed|Failed to resolve '|Failed to parse: "
    )
    specific = True  # asks whose request it was
    needs = (HubCacheProbe,)
    fixes = (Offer("set-endpoint", Applicability.UNSAFE),)
    links = (
        Link("HF_ENDPOINT", "https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"),
    )
    CASES = (
        Match(
            text=f"{LIKE_FRAMES}httpx.UnsupportedProtocol: Request URL is missing an 'http://' or 'https://' protocol.",
            certainty=Certainty.LIKELY,
            title="HF_ENDPOINT is no web address",
        ),
        NoMatch(
            text='Traceback (most recent call last):\n  File "/app/crawl.py", line 3, in get\n    client.get(url)\n'
            "httpx.UnsupportedProtocol: Request URL is missing an 'http://' or 'https://' protocol."
        ),
        Match(
            text=f"{LIKE_FRAMES}httpx.ConnectError: [Errno -2] Name or service not known",
            evidence={"hub-cache": {"endpoint": "https://https://hf-mirror.com"}},
            certainty=Certainty.CONFIRMED,
            title="HF_ENDPOINT is `https://https://hf-mirror.com`, which is no web address$",
            fixes=("set-endpoint",),
        ),
        Match(
            text=f"{LIKE_FRAMES}ValueError: Port could not be cast to integer value as '80a'",
            evidence={"hub-cache": {"endpoint": "https://hf-mirror.com:80a"}},
            title="HF_ENDPOINT is `https://hf-mirror.com:80a`, which is no web address$",
        ),
        NoMatch(text=f"{LIKE_FRAMES}httpx.ConnectError: [Errno -2] Name or service not known", code="HUB001"),
        NoMatch(text="requests.exceptions.MissingSchema: Invalid URL 'api.example/x': No scheme supplied."),
        Reproduce(
            (QUOTED, "import huggingface_hub", "huggingface_hub.hf_hub_download('acme/tiny-bert', 'config.json')"),
            title=r"HF_ENDPOINT is `'http://127\.0\.0\.1:\d+'`, and the quotes beside it became a part of the value",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-endpoint"),),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (
                "import huggingface_hub",
                "huggingface_hub.hf_hub_download('acme/tiny', 'config.json', endpoint='hf-mirror.com')",
            ),
            title="The `endpoint` of this call or client is `hf-mirror.com`, which is no web address: https:// is missing",
            certainty=Certainty.CONFIRMED,
            environment=ONLINE,
            isolated=True,
        ),
        *(
            Reproduce(
                (SCHEMELESS, "import huggingface_hub, transformers", f"huggingface_hub.{load}"),
                title=r"HF_ENDPOINT is `127\.0\.0\.1:\d+`, which is no web address: http:// is missing",
                certainty=Certainty.CONFIRMED,
                fixes=(Try("set-endpoint"),),
                environment=ONLINE,
                isolated=True,
            )
            for load in ("hf_hub_download('acme/tiny-bert', 'config.json')", "model_info('acme/tiny-bert')")
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[HubCacheProbe.name]
        endpoint = str(seen.get("endpoint", ""))
        if not passes(failure, HUB_CLIENT) or is_web_address(endpoint):
            return None
        if not endpoint and not hit["sure"]:
            return None  # a good address fails alike
        if not endpoint:
            return self.found(
                "HF_ENDPOINT is no web address: it must begin with https://",
                Certainty.LIKELY,
                what="The Hub's client asked an address that does not say how to connect.",
            )
        whole = mended(endpoint)
        meant, passed = is_web_address(whole), bool(seen.get("endpoint_passed"))
        fix = self.offer(
            "set-endpoint",
            f"Use {whole[:80]} in this kernel",
            "Set HF_ENDPOINT so where the kernel starts, to keep it.",
        )
        return self.found(
            f"{'The `endpoint` of this call or client' if passed else 'HF_ENDPOINT'} is `{endpoint[:80]}`, {_fault(endpoint, whole)}",
            Certainty.CONFIRMED,
            what="The library puts the path of each file behind this address, and nobody can be asked.",
            why=f"Meant is probably {whole[:80]}."
            if meant
            else "A name of a host must follow `https://`, and a port is a number.",
            evidence=tuple(one for one in seen.seen if one.what == "address of the Hub"),
            fixes=() if passed or not meant else (fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if scene.host is None or scene.cell is None:
            raise PlanError("The failing cell is not known here: set HF_ENDPOINT before Python starts.")
        # read only now, for a diagnosis is shown and kept, and the address may have a login in it
        old = str(getattr(sys.modules.get("huggingface_hub.constants"), "ENDPOINT", ""))
        if not old:
            raise PlanError("The Hub's client is not loaded any more: set HF_ENDPOINT before Python starts.")
        endpoint, switches = mended(old), []
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in {"huggingface_hub", "transformers"}:
                continue
            for copy in COPIES:
                value = vars(module).get(copy)
                if isinstance(value, str) and value.startswith(old):
                    switches.append(Switch(name, copy, endpoint + value[len(old) :]))
        switches.append(Switch("huggingface_hub.hf_api", "api.endpoint", endpoint))
        return SetSwitches(scene.host, {"HF_ENDPOINT": endpoint}, switches, reruns=(scene.cell,))


def mended(endpoint: str) -> str:
    """The address with how to connect in front: over TLS, but to this machine itself."""
    bare = _HOW.sub("", endpoint.strip(_AROUND)).rstrip("/\\")
    own = re.match(r"(?:localhost|127\.[\d.]+|0\.0\.0\.0|\[::1\])(?::|/|$)", without_login(bare))
    return f"{'http' if own else 'https'}://{bare}"


def _fault(endpoint: str, whole: str) -> str:
    """What is wrong with it, as the end of a sentence."""
    if not is_web_address(whole):
        return "which is no web address"
    if endpoint.strip(_AROUND).rstrip("/") == whole:
        return (
            f"and the {'quotes' if set(endpoint) & set(_AROUND[:3]) else 'blank'} beside it became a part of the value"
        )
    missing = not _HOW.match(endpoint.strip(_AROUND))
    return "which is no web address" + (f": {whole.partition('//')[0]}// is missing" if missing else "")
