"""Take out of a text what nobody else should read: keys, tokens, passwords, names of people, secret environment values."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from tfdiag_ipython.addresses import hide_logins, passwords

SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|credential|api_?key|access_?key|private_?key|_auth\b|^auth|_pw$", re.I
)
"""Environment variables with such names hold values that must not be shown."""

_ADDRESS_NAME = re.compile(r"(?:proxy|endpoint|ur[il]|index)$", re.I)
"""Those of such names may hold an address with a login."""

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
      | eyJ[A-Za-z0-9_\-]{12,}(?:\.[A-Za-z0-9_\-]*){0,4}   # JSON web tokens, and other JSON as base64
    )""",
    re.VERBOSE,
)
_VALUE = r"[A-Za-z0-9._~+/\-]{8,}=*"
_SCHEME = re.compile(  # "Token classification" is no key, and neither is any other plain word, but in a header
    rf"(?i:(authorization[\"']?\s{{0,40}}[:=]\s{{0,40}}[\"']?(?:[a-z]{{1,20}}\s{{1,40}}|(?=\S{{0,300}}\d)))){_VALUE}"
    rf"|\b((?i:Bearer)|(?i:Basic|Token)(?=\s{{1,40}}[a-z]{{0,99}}[A-Z0-9]))\s{{1,40}}{_VALUE}"
)
_NAMED = re.compile(
    r"""(?P<name>(?:token|secret|password|passwd|passphrase|api_?key|access_?key|private_?key)["']?\s{0,40}[=:]\s{0,40})
        (?:(?P<quote>["'])(?!<)[^\s"']{6,}(?P=quote)      # a literal, though not a special token such as <|pad|>
          |(?=[^\s,;)}\]]{0,300}\d)(?!<)[^\s"',;)}\]]{6,})  # bare: a value, though not an expression of the program
    """,
    re.I | re.VERBOSE,
)
_EMAIL = re.compile(r"(?<![\w.+\-])[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)*\.[A-Za-z]{2,}\b")
_PERSON = r"[^/\\\s\"':,;<>]+"
_VOLUME = re.compile(r"(?<![\w.\-])/Volumes/(?:[^/\n\"':<>]{1,60}(?=/)|[^/\s\"':,;<>]+)")
_HOME = re.compile(
    rf"""(?P<root>
        (?<![\w.])/(?:home|Users|run/media|media)/
      | (?:(?<=file://)|(?<![\w.\-/\\]))/(?:(?!usr/|lib)[\w.\-<>]{{1,60}}/){{1,5}}?(?:home|homes|users?|Users)/(?=[^/\s.]+(?![\w.])|[^/\s]+/)
      )(?P<sorted>(?P<one>[a-z])/(?:(?P<two>(?P=one)\w)/(?=(?P=two)))?(?=(?P=one)))?{_PERSON}  # /user/e/erin
      | (?P<drive>(?:\b[A-Za-z]:|(?<![\w.\\])\\{{2,4}}[\w.$\-]{{1,60}})(?:\\{{1,2}}|/)      # a drive, or a server
        (?:(?!Program|Lib|lib)[\w.$\ \-]{{1,60}}(?:\\{{1,2}}|/)){{0,4}}?(?:(?i:Users)|home|Documents\ and\ Settings)(?:\\{{1,2}}|/))
        (?:{_PERSON}(?:\ {_PERSON}){{1,2}}(?=[\\/])|{_PERSON})""",
    re.VERBOSE,
)
"""What stands before a person's name in a path, wherever the homes are mounted, and the name."""
_OWN_NAMES = ("USER", "LOGNAME", "USERNAME")
_SHARED = (
    "root user jovyan admin ubuntu debian centos runner home guest student nobody daemon service docker vagrant kaggle colab "
    "content app api apps bin build cache conda anaconda anaconda3 miniconda miniconda3 mambaforge miniforge3 config data dataset "
    "datasets demo dev dist docs etc env envs examples export files hub lab lib lib64 local log logs main media mnt model models "
    "notebook notebooks nfs opt output outputs packages project projects pub python python3 repo repos results run runs scratch "
    "scripts server share shared site software source src srv storage system task tasks team temp tests tmp tools train training "
    "usr utils var venv web work workspace www accelerate autogluon bitsandbytes cuda deepspeed diffusers evaluate fastai gradio "
    "huggingface huggingface_hub jax jupyter keras langchain lightning llama matplotlib mlflow nltk numpy nvidia onnx pandas peft "
    "pillow pip requests safetensors scipy seaborn sklearn spacy spark streamlit tensorflow tokenizers torch torchaudio "
    "torchvision transformers triton trl urllib3 vllm wandb xgboost"
)
_NOBODY = sys.stdlib_module_names | frozenset(_SHARED.split())
"""Names that accounts share with many machines, folders or packages: they say nothing of a person, and paths need theirs."""
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """``text`` with keys, tokens, passwords, user names in home folders, e-mail addresses and secret values replaced.

    ``environment`` (default: this process's) gives the values of variables whose names look secret, and the user's own name.
    What was replaced is named in angle brackets, so that a reader sees that something stood there.
    """
    known = os.environ if environment is None else environment
    secrets = {value: name for name, value in known.items() if len(value) >= 6 and SECRET_NAME.search(name)}
    for name, value in known.items():
        if _ADDRESS_NAME.search(name):
            secrets |= {secret: name for secret in passwords(value) if len(secret) >= 6}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"<value of {secrets[value]}>")
    text = _PEM.sub("<private key>", text)
    text = hide_logins(text)
    text = _KEYS.sub("<key>", text)
    text = _SCHEME.sub(lambda found: f"{found[1] or f'{found[2]} '}<key>", text)
    text = _NAMED.sub(lambda found: f"{found['name']}{found['quote'] or ''}<secret>{found['quote'] or ''}", text)
    text = _EMAIL.sub("<e-mail address>", text)
    text = _VOLUME.sub("/Volumes/<volume>", text)
    text = _HOME.sub(lambda found: f"{found['root'] or found['drive']}{found['sorted'] or ''}<user>", text)
    for name in {known.get(variable, "") for variable in _OWN_NAMES} - _NOBODY:
        if len(name) >= 3:  # also where it stands in a folder of another kind, such as /scratch/erin
            text = re.sub(rf"(?<=[/\\])(?<!-packages[/\\]){re.escape(name)}(?=[/\\\s\"':,;]|\Z)", "<user>", text)
    return text
