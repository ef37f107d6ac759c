"""Whose signature the Hub's client trusts, which other certificate files this machine has, and who signed what the Hub shows."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.paths import from_here
from tfdiag_ipython.probe import Evidence, Probe, Scene

ELSEWHERE = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)
"""Variables by which programs are told of a company's certificate: often one of them is set, and not the one that is read here."""
SYSTEM = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Fedora, SUSE and macOS keep the system's certificates, in which a company puts its own."""


class HubCertificatesProbe(Probe):
    """Looks which certificate file the Hub's client reads, and which others there are; without the network.

    Facts: ``reads`` (the variables that the client reads), ``variable`` (the one of them that is set), ``bundle`` (the file that is
    trusted now; empty: not known), ``absent`` (it does not exist), ``others`` (other certificate files: where it is named, file).
    Source: requests (huggingface_hub 0) reads ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE`` at each call and trusts certifi otherwise;
    httpx and httpx2 (1 and 2) read ``SSL_CERT_FILE`` when the client is made, and trust certifi or, httpx2 on Linux, the system.
    """

    name: ClassVar[str] = "hub-certificates"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        http: Any = scene.module("huggingface_hub.utils._http")
        if http is None:
            return Evidence(missing="the Hub's client is not loaded")
        renewable = hasattr(http, "close_session")
        reads = ("SSL_CERT_FILE",) if renewable else ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
        variable = next((name for name in reads if os.environ.get(name)), "")
        if variable:
            bundle = os.environ[variable]
        elif renewable and scene.module("httpx2") is not None:
            bundle = ssl.get_default_verify_paths().openssl_cafile
        else:
            certifi = getattr(scene.module("certifi"), "__file__", None)
            bundle = os.path.join(os.path.dirname(certifi), "cacert.pem") if certifi else ""
        scene.deadline.check()
        named = {name: os.environ[name] for name in ELSEWHERE if name not in reads and os.environ.get(name)}
        found = {**named, **{path: path for path in SYSTEM}}
        used = os.path.realpath(bundle) if bundle else ""
        others: dict[str, str] = {}
        for where, path in found.items():
            if os.path.isfile(path) and os.path.realpath(path) not in {used, *map(os.path.realpath, others.values())}:
                others[where] = path
        facts = {
            "reads": reads,
            "variable": variable,
            "bundle": bundle,
            "absent": bool(variable) and not os.path.exists(bundle),
            "others": others,
        }
        told = f"{variable}={from_here(bundle)}" if variable else from_here(bundle)
        seen = [Observation("trusted certificates", told, "environment" if variable else "the library's default")]
        if others:
            seen.append(Observation("other certificate files here", ", ".join(others), "environment and system"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def signer(connect: Callable[[], socket.socket], host: str) -> str:
    """Who signed the certificate that answers at this open connection; empty where that cannot be read.

    The certificate is fetched unverified, and decoded by verifying the same one against itself on a second connection:
    the standard library decodes only what it has verified.
    """
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError, ValueError):
        with connect() as plain, unverified.wrap_socket(plain, server_hostname=host) as shown:
            own = shown.getpeercert(binary_form=True)
        itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        itself.check_hostname = False
        itself.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        itself.load_verify_locations(cadata=own or b"")
        with connect() as plain, itself.wrap_socket(plain, server_hostname=host) as shown:
            return _name(shown.getpeercert() or {})
    return ""


def knows(connect: Callable[[], socket.socket], host: str, bundle: str) -> bool:
    """Whether the certificate that answers at this open connection is signed by somebody in this certificate file."""
    with contextlib.suppress(OSError, ValueError):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=bundle)
        with connect() as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    return False


def _name(certificate: Mapping[str, Any]) -> str:
    """``Acme TLS Inspection (Acme Corporation)`` of the issuer of a decoded certificate."""
    fields = {key: str(value) for part in certificate.get("issuer", ()) for key, value in part}
    common, owner = fields.get("commonName", ""), fields.get("organizationName", "")
    return f"{common} ({owner})"[:120] if common and owner else (common or owner)[:120]
