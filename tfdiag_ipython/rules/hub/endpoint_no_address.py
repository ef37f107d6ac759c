from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation
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
COPIES = ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE", "HUGGINGFACE_CO_RESOLVE_ENDPOINT")
"""Names under which modules of the Hub's client keep the address, or an address that begins with it."""
LIKE_FRAMES = 'Traceback (most recent call last):\n  File "/x/huggingface_hub/utils/_http.py", line 9, in http_backoff\n    client.request()\n'


class EndpointNoAddress(Rule):
    """The Hub's address (`HF_ENDPOINT`) has no `https://` in front.

    *What it means*
    The library puts the path of each file behind this address, and a request needs to be told how to connect.

    *Why it happens*
    `HF_ENDPOINT=hf-mirror.com`, or a misspelt `htps://`.

    *How tfdiag confirms it*
    The request came from the Hub's client, and the address that the library holds begins with neither `http://` nor `https://`.

    *Fixes and their safety*
    `set-endpoint` (unsafe: whether the server is asked over TLS is decided here) sets the variable and the address that the library read
    from it on import, with `https://`, and `http://` for this machine itself.

    *Example*
    `HF_ENDPOINT=hf-mirror.com`, then `AutoTokenizer.from_pretrained("bert-base-uncased")`.

    *References*
    huggingface_hub: `constants.py`, ENDPOINT; environment variables, HF_ENDPOINT.
    """

    code = "HUB009"
    name = "endpoint-no-address"
    message = re.compile(
        r"missing an 'http://' or 'https://' protocol|unsupported protocol '|No scheme supplied|No connection adapters were found for '"
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
        NoMatch(text="requests.exceptions.MissingSchema: Invalid URL 'api.example/x': No scheme supplied."),
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
        if not passes(failure, HUB_CLIENT) or re.match("https?://.", endpoint):
            return None
        if not endpoint:
            return self.found(
                "HF_ENDPOINT is no web address: it must begin with https://",
                Certainty.LIKELY,
                what="The Hub's client asked an address that does not say how to connect.",
            )
        whole = mended(endpoint)
        fix = self.offer(
            "set-endpoint",
            f"Use {whole[:80]} in this kernel",
            "Set HF_ENDPOINT so where the kernel starts, to keep it.",
            endpoint=whole,
        )
        what = "which is no web address" + ("" if "://" in endpoint else f": {whole.partition('//')[0]}// is missing")
        return self.found(
            f"HF_ENDPOINT is `{endpoint[:80]}`, {what}",
            Certainty.CONFIRMED,
            what="The library puts the path of each file behind this address, and nobody can be asked.",
            why=f"Meant is probably {whole[:80]}.",
            evidence=(Observation("address of the Hub", endpoint[:80], "huggingface_hub.constants.ENDPOINT"),),
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if scene.host is None or scene.cell is None:
            raise PlanError("The failing cell is not known here: set HF_ENDPOINT before Python starts.")
        endpoint = str(fix.parameters["endpoint"])
        old = str(getattr(sys.modules.get("huggingface_hub.constants"), "ENDPOINT", ""))
        switches = []
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in {"huggingface_hub", "transformers"}:
                continue
            for copy in COPIES:
                value = vars(module).get(copy)
                if isinstance(value, str) and old and value.startswith(old):
                    switches.append(Switch(name, copy, endpoint + value[len(old) :]))
        switches.append(Switch("huggingface_hub.hf_api", "api.endpoint", endpoint))
        return SetSwitches(scene.host, {"HF_ENDPOINT": endpoint}, switches, reruns=(scene.cell,))


def mended(endpoint: str) -> str:
    """The address with how to connect in front: over TLS, but to this machine itself."""
    bare = endpoint.rpartition("://")[2].lstrip("/")
    own = re.match(r"(?:localhost|127\.[\d.]+|0\.0\.0\.0|\[::1\])(?::|/|$)", bare)
    return f"{'http' if own else 'https'}://{bare}"
