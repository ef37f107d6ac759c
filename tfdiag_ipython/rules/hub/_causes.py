"""What stopped a request to the Hub, read from the exception chain: switch, name, connection, TLS, proxy or HTTP status."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tfdiag_ipython.addresses import hide_logins
from tfdiag_ipython.failure import Raised

Kind = Literal[
    "switch",
    "local-only",
    "proxy-login",
    "proxy-value",
    "proxy",
    "tls",
    "dns",
    "refused",
    "no-route",
    "time-out",
    "route",
    "cut",
    "redirects",
    "portal",
    "status",
    "ca-file",
    "",
]
TRACES: tuple[tuple[Kind, str], ...] = (
    ("switch", r"offline mode is enabled|\bOfflineModeIsEnabled\b"),
    ("local-only", r"outgoing traffic has been disabled"),
    ("proxy-login", r"Proxy Authentication Required|Tunnel connection failed: 407"),
    ("proxy-value", r"Unknown scheme for proxy URL|\bInvalidProxyURL\b|\AInvalid port: '"),
    ("proxy", r"\bProxyError\b|[Cc]annot connect to proxy|Unable to connect to proxy|Tunnel connection failed"),
    ("tls", r"\bSSLE\w+Error\b|\bSSLError\b|CERTIFICATE_VERIFY_FAILED|\[SSL[:\]]"),
    (
        "dns",
        r"[Nn]ame resolution|Name or service not known|nodename nor servname|getaddrinfo failed|Failed to resolve '",
    ),
    ("refused", r"Connection refused|WinError 10061|\bConnectionRefusedError\b"),
    ("time-out", r"\b[Tt]imed out\b|\b(?:Read|Connect|Write|Pool)Timeout(?:Error)?\b|WinError 10060"),
    ("redirects", r"\bTooManyRedirects\b|Exceeded (?:\d+|maximum allowed) redirects"),
    ("no-route", r"[Nn]etwork is unreachable|No route to host|WinError 100(?:51|65)"),
    (
        "cut",
        r"Connection (?:reset|aborted|broken)|\bRemoteDisconnected\b|\bConnectionResetError\b|\bRemoteProtocolError\b"
        r"|Server disconnected|peer closed connection",
    ),
    (
        "status",
        r"\b(?P<status>[45]\d\d) (?:Server|Client) Error\b|(?:Client|Server) error '(?P<status5>[45]\d\d) |\b(?P<refused>403) Forbidden: ",
    ),
    ("ca-file", r"suitable TLS CA certificate bundle|\A\[Errno 2\] No such file or directory\Z"),
    ("portal", r"\bFileMetadataError\b|does not seem to be on huggingface\.co"),
)
"""Told apart by text and class *name*: the HTTP libraries below huggingface_hub change."""
TOLD: Mapping[str, str] = {
    "proxy-login": "the proxy wants a login (HTTP 407)",
    "proxy-value": "the value of a proxy variable is no address of a proxy",
    "ca-file": "the certificate file that it is to be checked with does not exist",
    "proxy": "the proxy did not let it through",
    "tls": "TLS failed",
    "dns": "its name did not resolve",
    "refused": "the connection was refused",
    "time-out": "it did not answer in time",
    "no-route": "no network leads to it",
    "cut": "the connection was cut",
    "redirects": "it sends in a circle (too many redirects)",
    "portal": "something else answered in its place (a login page?)",
}
STATUSES: Mapping[int, str] = {
    401: "it wants a login",
    403: "it forbids this",
    404: "it knows no such thing",
    407: "the proxy wants a login",
    429: "too many requests",
}
REMEDIES: Mapping[str, str] = {
    "proxy-login": "Put the login into the proxy variable: http://user:password@host:port, special characters percent-encoded.",
    "proxy-value": "It takes the form http://user:password@host:port, special characters of the password percent-encoded, and no quotes.",
    "ca-file": "Set the variable to the file where it is now, or unset it, and load again.",
    "plain": "What answers there speaks no TLS: http:// is meant in its address, or in the proxy variable.",
    "proxy": "Check the proxy variables, or ask who runs the proxy to let the Hub's hosts through.",
    "tls": "A company's proxy that opens TLS shows a certificate of its own: `%tfdiag probe hub` says who signed it. The Hub's client "
    "reads SSL_CERT_FILE (with transformers 4: REQUESTS_CA_BUNDLE).",
    "dns": "The machine has no network, no name server, or HF_ENDPOINT is misspelt.",
    "refused": "Nothing listens at that address, or a firewall turns the connection away.",
    "time-out": "A firewall that drops packets looks like this; a slow link wants a larger HF_HUB_DOWNLOAD_TIMEOUT.",
    "no-route": "The machine has no network, or none that leads out of the house.",
    "cut": "A firewall or proxy on the way, or trouble at the Hub.",
    "redirects": "A login page, a proxy or a mirror answers each request with the way to another one.",
    "portal": "A captive portal, or a mirror that does not speak the Hub's protocol.",
}


PLAIN = re.compile(r"WRONG_VERSION_NUMBER|wrong version number|UNKNOWN_PROTOCOL", re.IGNORECASE)
"""An answer that is no TLS."""
UNSAID = re.compile(r"403 Forbidden: None\.")
"""A refusal without a word: the Hub itself gives a reason."""
BAD_TOKEN = re.compile(r"Invalid credentials in Authorization header")


@dataclass(frozen=True)
class Cause:
    """What stopped the request: its kind, the HTTP status if that was it, and the words of the exception that shows it."""

    kind: Kind = ""
    status: int = 0
    quote: str = ""

    def told(self, place: str, proxy: str = "", switch: str = "") -> str:
        """One clause for a title; ``proxy`` is the variable that sends requests through a proxy, ``switch`` what set offline mode."""
        if self.kind == "switch":
            return f"Offline mode is on ({switch})"
        if self.kind == "local-only":
            return "Only local files were allowed"
        if self.kind == "status":
            meaning = STATUSES.get(self.status, "trouble on its side" if self.status >= 500 else "it refuses this")
            return f"{place} answered HTTP {self.status} ({meaning})"
        words = TOLD.get(self.kind, "")
        if self.kind == "tls" and re.search("certificate.verify.failed", self.quote, re.IGNORECASE):
            words = "its TLS certificate is not trusted here"
        if self.kind == "tls" and PLAIN.search(self.quote):
            words = "it speaks no TLS"
        if proxy and self.kind == "proxy-value":
            words = f"the value of {proxy} is no address of a proxy"
        if proxy and self.kind == "proxy-login":
            words = f"the proxy in {proxy} wants a login (HTTP 407)"
        if proxy and self.kind in {"proxy", "refused", "dns", "time-out", "no-route", "cut", "redirects"}:
            how = "" if self.kind == "proxy" else f" ({TOLD[self.kind]})"
            words = f"the proxy in {proxy} did not let it through{how}"
        return f"{place} could not be reached" + (f": {words}" if words else "")


def find_cause(chain: Sequence[Raised]) -> Cause:
    """The first trace in order of ``TRACES`` in these exceptions' names and messages; log lines beside them do not count."""
    for kind, pattern in TRACES:
        for raised in chain:
            found = re.search(pattern, raised.message) or re.search(pattern, raised.name)
            if found:
                groups: Mapping[str, Any] = found.groupdict()
                status = int(groups.get("status") or groups.get("status5") or groups.get("refused") or 0)
                return Cause(kind, status, quote(raised, _line(raised, found)))
    return Cause()


def quote(raised: Raised, words: str) -> str:
    """The exception's name and these words of its message, without a login that an address in them has."""
    return f"{raised.name}: {hide_logins(words)}"[:300]


def _line(raised: Raised, found: re.Match[str]) -> str:
    """The line of the message that was found; the first line where the exception's name itself was."""
    start = found.start() if found.string == raised.message else 0
    before, after = raised.message[:start], raised.message[start:]
    return (before.rpartition("\n")[2] + after.partition("\n")[0]).strip()
