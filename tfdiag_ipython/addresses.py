"""Addresses as they may be shown and kept: without the login that stands in front of the host."""

from __future__ import annotations

import re

_SLASHED = r"[^\s/@:\[]{0,200}:(?!\d{0,5}(?:/|\Z))[^\s@]{0,300}@"
"""A user and a password with a slash in it, which is no port."""
_LOGIN = re.compile(
    rf"\A(?P<how>\s{{0,9}}[\"']?(?:[A-Za-z]{{1,9}}:?/{{1,3}}|/{{2}})?)(?:[^/@]*@|{_SLASHED})(?:[^@]{{0,300}}@)*"
)
_IN_URL = re.compile(rf"(?:(?<=//)|(?<=:/))(?:{_SLASHED}|[^\s/@]*@)(?:[^\s/@]{{0,300}}@)*")
_BARE = re.compile(r"(?<![\w.+\-/<])[\w.+\-]+:[^\s/@]{1,200}@(?=[\w.\-\[])")

_WEB = re.compile(
    r"(?i)https?://(?:\w[\w-]*(?:\.\w[\w-]*)*\.?|\[[\da-f:.]+\])(?::(?:\d{1,4}|[1-5]\d{4}|6[0-5]\d{3}))?(?:[/?#]\S*)?"
)


def without_login(address: str) -> str:
    """An address without ``user:password@`` or ``token@`` in front of its host, also where no scheme precedes it."""
    return _LOGIN.sub(r"\g<how>", address)


def passwords(address: str) -> list[str]:
    """What is secret in an address: the password or token, and the pieces in which a message may quote one that was not encoded."""
    found = _LOGIN.match(address)
    if found is None:
        return []
    user, colon, password = found[0][len(found["how"]) : -1].partition(":")
    secret = password if colon else user
    return [secret, *re.split("[/@:#?]", secret)]


def is_web_address(address: str) -> bool:
    """Whether an address, its login taken out, is `http://` or `https://`, a host, perhaps a port, and a path."""
    return _WEB.fullmatch(address) is not None


def hide_logins(text: str) -> str:
    """A text in which each address that has a login says so in its place."""
    return _BARE.sub("<credentials>@", _IN_URL.sub("<credentials>@", text))
