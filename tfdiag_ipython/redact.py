"""Take out of a text what nobody else should read: keys, tokens, passwords, names of people, secret environment values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|credential|api_?key|access_?key|private_?key|_auth\b|^auth|_pw$", re.I
)
"""Environment variables with such names hold values that must not be shown."""

_KEYS = re.compile(
    r"""\b(?:
        hf_[A-Za-z0-9]{8,}                          # Hugging Face
      | api_org_[A-Za-z0-9]{8,}                     # Hugging Face, organisations
      | sk-(?:[A-Za-z]+-)*[A-Za-z0-9_\-]{16,}       # OpenAI, Anthropic
      | gh[pousr]_[A-Za-z0-9]{16,}                  # GitHub
      | github_pat_[A-Za-z0-9_]{16,}
      | glpat-[A-Za-z0-9_\-]{16,}                   # GitLab
      | (?:AKIA|ASIA)[A-Z0-9]{16}                   # AWS
      | AIza[A-Za-z0-9_\-]{30,}                     # Google
      | ya29\.[A-Za-z0-9_\-]{16,}
      | xox[abeprs]-[A-Za-z0-9\-]{10,}              # Slack
      | pypi-[A-Za-z0-9_\-]{16,}
      | eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*   # JSON web tokens
    )""",
    re.VERBOSE,
)
_SCHEME = re.compile(r"\b(Bearer|Basic|Token)\s+[A-Za-z0-9._~+/\-]{8,}=*", re.I)
_NAMED = re.compile(
    r"""(?P<name>["']?\b[\w\-]*(?:token|secret|password|passwd|passphrase|api_?key|access_?key|private_?key)["']?
        \s*[=:]\s*)
        (?:(?P<quote>["'])(?!<)[^\s"']{6,}(?P=quote)      # a literal, though not a special token such as <|pad|>
          |(?=[^\s,;)}\]]*\d)(?!<)[^\s"',;)}\]]{6,})        # bare: a value, though not an expression of the program
    """,
    re.I | re.VERBOSE,
)
_URL_PASSWORD = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)[^\s/@:]*(?::[^\s/@]*)?@", re.I)
_BARE_PASSWORD = re.compile(r"(?<![\w/<])[\w.+\-]+:[^\s/@]+@(?=[\w.\-]+)")
_EMAIL = re.compile(r"\b[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)*\.[A-Za-z]{2,}\b")
_HOME = re.compile(
    r"(?P<root>(?<![\w.])/(?:home|Users)/|\b[A-Za-z]:(?:\\{1,2}|/)(?:Users|Documents and Settings)(?:\\{1,2}|/))[^/\\\s\"':,;<>]+"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """``text`` with keys, tokens, passwords, user names in home folders, e-mail addresses and secret values replaced.

    ``environment`` (default: this process's) gives the values of variables whose names look secret, and the user's own name.
    What was replaced is named in angle brackets, so that a reader sees that something stood there.
    """
    known = os.environ if environment is None else environment
    secrets = {value: name for name, value in known.items() if len(value) >= 6 and SECRET_NAME.search(name)}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"<value of {secrets[value]}>")
    text = _PEM.sub("<private key>", text)
    text = _URL_PASSWORD.sub(r"\g<scheme><credentials>@", text)
    text = _BARE_PASSWORD.sub("<credentials>@", text)
    text = _KEYS.sub("<key>", text)
    text = _SCHEME.sub(r"\1 <key>", text)
    text = _NAMED.sub(lambda found: f"{found['name']}{found['quote'] or ''}<secret>{found['quote'] or ''}", text)
    text = _EMAIL.sub("<e-mail address>", text)
    return _HOME.sub(r"\g<root><user>", text)
