"""Is the Hub reachable from here? Tried step by step, only when somebody asks: name, connection, TLS, HTTP; every step has a time-out."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from tfdiag_ipython.addresses import without_login
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.hub_cache import proxy_variable, readable_proxy
from tfdiag_ipython.probes.hub_certificates import HubCertificatesProbe, knows, signer

USAGE = "%tfdiag probe hub [ENDPOINT]"
DEFAULT = "https://huggingface.co"
TIMEOUT = 5.0
"""Seconds that each step may take."""


@dataclass
class Trial:
    """The steps that were made, each with its outcome in words, and what ended them (empty: the Hub answered)."""

    steps: list[tuple[str, str, float]] = field(default_factory=list)
    failed: str = ""
    status: int = 0


class HubProbe(Probe):
    """Resolves, connects, shakes hands and asks for the headers of the endpoint's root (``%tfdiag probe hub [ENDPOINT]``).

    Facts: ``endpoint``, ``proxy`` (the variable whose proxy was used), ``steps`` (name, outcome, milliseconds), ``failed`` (name of
    the step at which it ended), ``status`` (of HTTP; 0: no answer), and for a certificate that is not trusted ``signer`` (who signed
    it), ``known_to`` and ``file`` (another certificate file that verifies it, and where it is named; empty: none). A step that fails, 401, 403,
    407, 429 and 5xx are a finding.
    """

    name: ClassVar[str] = "hub"
    deep: ClassVar[bool] = True
    usage: ClassVar[str] = USAGE

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return Evidence(missing=f"it uses the network: `{USAGE}`")

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        constants: Any = scene.module("huggingface_hub.constants")
        loaded = str(getattr(constants, "ENDPOINT", "") or os.environ.get("HF_ENDPOINT", ""))
        endpoint = without_login(arguments.strip() or loaded or DEFAULT)  # a password is no evidence
        address = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        try:
            port = address.port
        except ValueError:
            port = -1
        if address.scheme not in {"http", "https"} or not address.hostname or port == -1:
            return Evidence(missing=f"`{endpoint}` is no address: `{USAGE}`")
        endpoint = f"{address.scheme}://{address.netloc}"
        proxy = proxy_variable(endpoint)
        via = os.environ.get(proxy, "") if proxy else ""
        if via and not readable_proxy(via):
            form = "http://user:password@host:port, special characters percent-encoded"
            return Evidence(missing=f"the value of {proxy} is no address of a proxy: it takes the form {form}")
        trusted = HubCertificatesProbe().look(Failure("check", ()), scene)
        trial = Trial()
        error = _try(trial, address, via, _existing(trusted))
        facts: dict[str, Any] = {
            "endpoint": endpoint,
            "proxy": proxy,
            "steps": tuple(trial.steps),
            "failed": trial.failed,
            "status": trial.status,
        }
        if trial.failed == "TLS" and "CERTIFICATE_VERIFY_FAILED" in error:
            facts |= _signed(trial, endpoint, via, dict(trusted.get("others", {})))
        seen = tuple(Observation(step, f"{told} ({ms:.0f} ms)", endpoint) for step, told, ms in trial.steps)
        if proxy:
            seen = (Observation("proxy", f"{proxy} applies to {endpoint}", "environment"), *seen)
        finding = Failure.from_finding("hub", f"Cannot reach {endpoint}: {error}", facts) if error else None
        return Evidence(MappingProxyType(facts), seen, finding=finding)


def _existing(trusted: Evidence) -> str:
    """The certificate file that the Hub's client trusts; empty: Python's own."""
    bundle = str(trusted.get("bundle", ""))
    return bundle if trusted.get("variable") or os.path.isfile(bundle) else ""


def connection_to(endpoint: str, proxy: str) -> Callable[[], socket.socket]:
    """Opens connections to this address, through this proxy if there is one; each raises ``OSError`` where that fails."""
    address = urlsplit(endpoint)
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else address

    def connect() -> socket.socket:
        plain = socket.create_connection((via.hostname, via.port or (443 if via.scheme == "https" else 80)), TIMEOUT)
        if proxy:
            _tunnel(plain, address)
        return plain

    return connect


def _signed(trial: Trial, endpoint: str, proxy: str, others: dict[str, str]) -> dict[str, str]:
    """Who signed the certificate that is not trusted, and which other certificate file of this machine would verify it."""
    connect, host = connection_to(endpoint, proxy), urlsplit(endpoint).hostname or ""
    who = _step(trial, "certificate", lambda: signer(connect, host), lambda who: f"signed by {who or 'nobody known'}")
    known = next((where for where, path in others.items() if knows(connect, host, path)), "")
    if known:
        trial.steps.append(("certificate", f"verified by {others[known]}", 0.0))
    return {"signer": who, "known_to": known, "file": others.get(known, ""), "steps": tuple(trial.steps)}


def _try(trial: Trial, address: SplitResult, proxy: str, bundle: str) -> str:
    """Make the steps; what ended them, in the words of the exceptions that the Hub's library would raise, or an empty string."""
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else address
    if proxy and via.scheme not in {"http", "https"}:
        trial.failed = "proxy"
        return f"ProxyError: a {via.scheme} proxy is not tried here"
    secure = address.scheme == "https"
    host, port = via.hostname or "", via.port or (443 if via.scheme == "https" else 80)
    with contextlib.ExitStack() as stack:
        try:
            found = _step(trial, "resolve", lambda: _resolve(host, port), lambda found: ", ".join(found))
            plain = _step(
                trial,
                "connect",
                lambda: socket.create_connection((found[0], port), TIMEOUT),
                lambda _: f"{host}:{port}",
            )
            stack.callback(plain.close)
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
            connection.sock = plain
            target = "/"
            if proxy and secure:
                _step(trial, "proxy", lambda: _tunnel(plain, address), lambda told: told)
            elif proxy:
                target = f"{address.scheme}://{address.netloc}/"
            if secure:
                name = address.hostname

                def shake_hands() -> ssl.SSLSocket:
                    return ssl.create_default_context(cafile=bundle or None).wrap_socket(plain, server_hostname=name)

                wrapped = _step(trial, "TLS", shake_hands, lambda s: str(s.version()))
                stack.callback(wrapped.close)
                connection.sock = wrapped
            trial.status = _step(
                trial, "HTTP", lambda: _head(connection, target, address.netloc), lambda status: f"status {status}"
            )
        except (OSError, http.client.HTTPException) as error:
            cut = isinstance(error, http.client.HTTPException) and not str(error)
            return f"{type(error).__name__}: {'the answer was cut off' if cut else error}"[:300]
    if trial.status in {401, 403, 407, 429} or trial.status >= 500:
        side = "Server" if trial.status >= 500 else "Client"
        trial.failed = "HTTP"
        return f"{trial.status} {side} Error"
    return ""


def _step(trial: Trial, name: str, action: Callable[[], Any], told: Callable[[Any], str]) -> Any:
    start = time.perf_counter()
    try:
        result = action()
    except Exception as error:
        trial.failed = name
        trial.steps.append((name, f"{type(error).__name__}: {error}"[:200], 1000 * (time.perf_counter() - start)))
        raise
    trial.steps.append((name, told(result), 1000 * (time.perf_counter() - start)))
    return result


def _resolve(host: str, port: int) -> list[str]:
    """Addresses of a name. The resolver knows no time-out, so it runs beside us and is left behind when it stalls."""
    outcome: list[list[str] | OSError] = []

    def look_up() -> None:
        try:
            outcome.append([str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError) as error:
            outcome.append(error if isinstance(error, OSError) else socket.gaierror(str(error)))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    if not outcome:
        raise TimeoutError(f"the name resolution of {host} timed out")
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return list(dict.fromkeys(outcome[0]))


def _tunnel(plain: socket.socket, address: SplitResult) -> str:
    """Ask an HTTP proxy for the way to the address; credentials in the proxy's variable are not sent."""
    place = f"{address.hostname}:{address.port or 443}"
    plain.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
    response = http.client.HTTPResponse(plain, method="CONNECT")
    response.begin()
    if response.status != 200:
        raise OSError(f"Tunnel connection failed: {response.status} {response.reason}")
    return f"tunnel to {place}"


def _head(connection: http.client.HTTPConnection, target: str, host: str) -> int:
    connection.putrequest("HEAD", target, skip_host=True)
    connection.putheader("Host", host)
    connection.putheader("User-Agent", "tfdiag")
    connection.endheaders()
    return connection.getresponse().status
