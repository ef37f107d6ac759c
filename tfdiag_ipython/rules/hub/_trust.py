"""Trust the certificate file of this machine that knows who signed what the Hub shows: a company's proxy that opens TLS."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tfdiag_ipython.diagnosis import Applicability, Fix
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.switch import SetSwitches
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.hub import connection_to
from tfdiag_ipython.probes.hub_cache import proxy_variable
from tfdiag_ipython.probes.hub_certificates import knows, signer
from tfdiag_ipython.rule import Offer, Rule

TRUST = Offer("trust-certificate-file", Applicability.UNSAFE)
UNTRUSTED = re.compile("certificate.verify.failed", re.IGNORECASE)


def trust_fix(rule: Rule, address: str, facts: Mapping[str, Any], *, display: bool = False) -> tuple[Fix, ...]:
    """The fix for an address (``https://host[:port]``) that shows an untrusted certificate; ``facts`` of the certificates probe."""
    others = dict(facts.get("others", {}))
    if not others or not urlsplit(address).hostname:
        return ()
    variable = facts["variable"] or facts["reads"][0]
    one = len(others) == 1
    names = " or ".join(f"`{where}`" for where in others)
    told = f"Whether {names} knows who signed the Hub's certificate is looked up before."
    return (
        rule.offer(
            TRUST.id,
            f"Trust {'the certificate file of ' + next(iter(others)) if one else 'another certificate file'} in this kernel",
            f"{told} It sets {variable}, and takes the place of the certificates trusted so far.",
            display=display,
            address=address,
            variable=variable,
            others=others,
        ),
    )


def plan_trust(fix: Fix, scene: Scene) -> Plan:
    """Look (this uses the network: somebody clicked) which file verifies the certificate; ``PlanError`` where none does."""
    if scene.host is None or scene.cell is None:
        raise PlanError(f"The failing cell is not known here: set {fix.parameters['variable']} before Python starts.")
    address = str(fix.parameters["address"])
    proxy = proxy_variable(address)
    connect = connection_to(address, os.environ.get(proxy, "") if proxy else "")
    host = urlsplit(address).hostname or ""
    who = signer(connect, host)
    signed = (
        f"The certificate that {host} shows is signed by {who}" if who else f"{host} shows an untrusted certificate"
    )
    for path in dict(fix.parameters["others"]).values():
        if not knows(connect, host, path):
            continue
        renew = getattr(sys.modules.get("huggingface_hub.utils._http"), "close_session", None)
        return SetSwitches(
            scene.host,
            {str(fix.parameters["variable"]): path},
            refresh=(renew,)
            if callable(renew)
            else (),  # a client of huggingface_hub 1 and later keeps what it trusted
            reruns=(scene.cell,),
            note=f"{signed}; {path} verifies it. Go on only if you know who that is.",
        )
    raise PlanError(f"{signed}, which no certificate file found here verifies: ask who runs this network for theirs.")
