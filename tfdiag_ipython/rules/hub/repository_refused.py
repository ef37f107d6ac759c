from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.addresses import hide_logins
from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import REPOSITORY, HubCacheProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import HUB_CLIENT, passes
from tfdiag_ipython.rules.hub._causes import BAD_TOKEN, UNSAID, find_cause
from tfdiag_ipython.rules.hub._examples import CACHED, FOLDERS, MISSPELT, ONE_MISSING, ONLINE, SERVING, STRICT
from tfdiag_ipython.rules.hub._names import read_name
from tfdiag_ipython.rules.hub._remedies import (
    ANONYMOUS,
    OFFERS,
    PLAIN,
    RENAMES,
    anonymous_fix,
    cache_fixes,
    cache_told,
    plain_fix,
    plan_remedy,
    renamed_fix,
)

NAMED = r"https?://[^/\s]+/(?:api/(?:models|datasets|spaces)/|datasets/|spaces/)?"


class RepositoryRefused(Rule):
    """The Hub does not hand out this repository: no such name, private, gated, or a token that it does not accept.

    *What it means*
    The name is neither a local folder nor a repository that the Hub shows to this user.

    *Why it happens*
    A misspelt name, a path that does not exist here, `None` in place of a name, a private repository without a token, or a licence
    not accepted yet.

    *How tfdiag confirms it*
    It reads the name and the status from the message and the exception chain (the Hub answers alike for private and missing
    repositories), and looks for that name and similar ones in the local cache and among the folders here.

    *Fixes and their safety*
    `use-plain-name` (safe) takes the repository's name out of a web address, quotes or spaces. `ask-without-token` (unsafe: as somebody
    else) leaves a refused token out of the call. `use-cached-name` and `use-nearest-folder` (unsafe: another model) edit the name to the nearest one that is here. `go-offline` and
    `local-files-only` (safe) load what the cache holds of it. Access is yours to ask for.

    *Example*
    `AutoModel.from_pretrained("meta-llama/Meta-Llama-3-8B")` without access.

    *References*
    transformers: `utils/hub.py`, `cached_files`; huggingface_hub: `errors.py`, RepositoryNotFoundError and GatedRepoError.
    """

    code = "HUB002"
    name = "repository-refused"
    message = re.compile(
        r"(?<!\S)(?P<missing>\S+) is not a local folder and is not a\s+valid model identifier"
        r"|(?P<invalid>Repo id must (?:be|use)[^\n]{1,200}?: |Incorrect path_or_model_id: )'(?P<path>[^\n]{0,300}?)'(?=\.(?:\s|$)|$)"
        r"|(?P<gated>trying to access a gated repo|Access to (?:model|dataset) \S+ is restricted)"
        r"|(?P<unsent>Illegal header value b'Bearer |return character\(s\) in header value: '?b?'Bearer )"
        r"|(?P<token>Token is required \(`?token=True`?\)|Invalid user token\.|Invalid credentials in Authorization header)"
        rf"|Cannot access content at: {NAMED}(?P<closed>[\w.-]*\w(?:/(?!resolve/)[\w.-]*\w)?)"
        rf"|Cannot access gated repo for url {NAMED}(?P<locked>[\w.-]*\w(?:/(?!resolve/)[\w.-]*\w)?)"
        rf"|Repository Not Found for url: {NAMED}(?P<absent>[\w.-]*\w(?:/(?!resolve/|revision/|tree/)[\w.-]*\w)?)"
        r"|(?P<status>40[134]) Client Error: [\w ]{1,40} for url: https://(?:huggingface\.co|hf\.co)/"
        r"(?:api/(?:models|datasets|spaces)/)?(?P<repo>[\w.-]+(?:/(?!resolve/)[\w.-]+)?)"
        r"|Client error '(?P<status5>40[134]) [\w ]{1,40}' for url '?https://(?:huggingface\.co|hf\.co)/"
        r"(?:api/(?:models|datasets|spaces)/)?(?P<repo5>[\w.-]+(?:/(?!resolve/)[\w.-]+)?)"
    )
    needs = (HubCacheProbe,)
    fixes = (PLAIN, *RENAMES, *OFFERS, ANONYMOUS)
    links = (Link("Gated repositories", "https://huggingface.co/docs/hub/models-gated"),)
    CASES = (
        Match(
            text="OSError: acme/tiny is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            certainty=Certainty.LIKELY,
            title="`acme/tiny` is neither a folder",
        ),
        Match(
            text="OSError: ./models/tiny is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            title="There is no folder `./models/tiny` here",
        ),
        Match(
            text="OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/data/models/tiny'. Use `repo_type` argument if "
            "needed.",
            title="There is no folder `/data/models/tiny` here",
        ),
        Match(
            text="OSError: None is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            title="None was given",
        ),
        Match(
            text="OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/acme/big.\n"
            "403 Client Error. (Request ID: x)\n\nCannot access gated repo for url https://huggingface.co/acme/big/resolve/main/config.json.",
            title=r"`acme/big` is gated.*403",
        ),
        Match(
            text="requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/a/b/resolve/main/x.json",
            title="`a/b` with HTTP 401",
        ),
        Match(
            text="huggingface_hub.errors.HfHubHTTPError: Client error '401 Unauthorized' for url 'https://huggingface.co/api/models/a/b' "
            "(Request ID: x)\n\nInvalid credentials in Authorization header",
            title="refuses the token that was sent",
        ),
        Match(
            text="huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-6)\n\n"
            "Repository Not Found for url: https://huggingface.co/api/models/acme/tinny.",
            title="`acme/tinny` is neither",
        ),
        Match(
            text="huggingface_hub.errors.HFValidationError: Repo id must use alphanumeric chars or '-', '_', '.', '--' and '..' are "
            "forbidden, '-' and '.' cannot start or end the name, max length is 96: '/data/model out'.",
            title="no folder `/data/model out` here",
        ),
        Match(
            text="OSError: Incorrect path_or_model_id: './out'. Please provide either the path to a local folder or the repo_id of a model.",
            title=r"no folder `\./out` here",
        ),
        Match(
            text="huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6)\n\nCannot access gated repo for url "
            "https://huggingface.co/acme/big/resolve/main/config.json.",
            title="`acme/big` is gated",
        ),
        Match(
            text="ValueError: Token is required (`token=True`), but no token found. You need to provide a token or be logged in.",
            title="wants a token",
        ),
        Match(
            text="huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: Please enable access to public gated repositories in your "
            "fine-grained token settings.\nCannot access content at: https://huggingface.co/acme/big/resolve/main/config.json.",
            title="`acme/big` is gated",
        ),
        NoMatch(
            text="requests.exceptions.HTTPError: 401 Client Error: Invalid user token. for url: https://api.example.org/"
        ),
        Match(
            text="OSError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
            "'https://huggingface.co/acme/tiny/blob/main/config.json'. Use `repo_type` argument if needed.",
            title="the name of that repository is `acme/tiny`",
            fixes=("use-plain-name",),
        ),
        Match(
            text="huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': "
            "'https://hf.co/acme/tiny/tree/v2'. Use `repo_type` argument if needed.",
            title="the name of that repository is `acme/tiny`",
        ),
        Match(
            text="OSError: Repo id must use alphanumeric chars, '-', '_' or '.'. The name cannot start or end with '-' or '.' and the maximum "
            "length is 96: ''.",
            title="An empty name was given",
        ),
        Match(
            text="huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: You do not have access.\nCannot access content at: "
            "https://huggingface.co/acme/big/resolve/main/config.json.\nMake sure your token has the correct permissions.",
            title=r"The Hub forbids `acme/big` to this user \(HTTP 403\): You do not have access",
        ),
        NoMatch(
            text="huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: None.\nCannot access content at: "
            "https://huggingface.co/acme/big/resolve/main/config.json.\nMake sure your token has the correct permissions.",
            code="HUB001",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/huggingface_hub/utils/_http.py", line 9, in http_backoff\n    client.request()\n'
            "httpx.LocalProtocolError: Illegal header value b'Bearer hf_abc\\n'",
            evidence={"hub-cache": {"token": "argument"}},
            title="The token passed as `token=` has a line break or a blank in it, and cannot be sent$",
        ),
        NoMatch(text="httpx.LocalProtocolError: Illegal header value b'Bearer abc\\n'"),
        NoMatch(text="ValueError: Repo id must be given"),
        NoMatch(text="ValueError: Invalid user token."),
        NoMatch(text="requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://example.org/a/b"),
        NoMatch(text="ValueError: shop is not a local folder"),
        Reproduce(
            (FOLDERS, "config = AutoConfig.from_pretrained('./models/tiny-brt')"),
            title=r"There is no folder `\./models/tiny-brt` here.*; there is `\./models/tiny-bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-folder"),),
            isolated=True,
        ),
        Reproduce(
            (
                SERVING,
                "tokenizer = AutoTokenizer.from_pretrained('https://huggingface.co/acme/tiny-bert')",
            ),
            title="`https://huggingface.co/acme/tiny-bert` is a web address, and the name of that repository is `acme/tiny-bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-plain-name"),),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (
                f"{SERVING}{STRICT}",
                "import shutil\nfrom huggingface_hub import constants\nfrom transformers import AutoConfig",
                "shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)  # also what a fix has fetched\n"
                "config = AutoConfig.from_pretrained('acme/tiny-bert')",
            ),
            title=r"The Hub refuses the token of HF_TOKEN \(HTTP 401\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("ask-without-token"),),
            environment={**ONLINE, "HF_TOKEN": "hf_revoked"},
            isolated=True,
        ),
        Reproduce(
            (ONE_MISSING, CACHED, "config = AutoConfig.from_pretrained('acme/tiny-brt')"),
            title="`acme/tiny-brt` is neither .* the local cache has no `acme/tiny-brt`, but `acme/tiny-bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-cached-name"),),
            environment=ONLINE,
            isolated=True,
        ),
        Reproduce(
            (ONE_MISSING, CACHED, MISSPELT, "tokenizer = AutoTokenizer.from_pretrained('acme/tiny-brt')"),
            title="`acme/tiny-brt` is neither .* the tokenizer of `acme/tiny-brt` is in the local cache",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("go-offline"), Try("local-files-only")),
            environment=ONLINE,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[HubCacheProbe.name]
        if "user token" in hit["token"] and not (passes(failure, HUB_CLIENT) or failure.says(_HUB)):
            return None  # another service's token
        if hit["unsent"]:
            return self._unsent(failure, seen)
        if hit["closed"] and UNSAID.search(hit.raised.message):
            return None  # the Hub says why it refuses: this was a proxy or gateway on the way (HUB001)
        cause = find_cause(failure.chain[hit.position :])
        status = int(hit["status"] or hit["status5"] or 0) or cause.status or _status(failure, hit)
        bad_token = bool(failure.says(BAD_TOKEN)) or "Invalid" in hit["token"]
        title, why, meant = _told(hit, status, seen, bad_token)
        cached = cache_told(seen.facts) if seen.get("complete") or seen.get("nearest") else ""
        folder = str(seen.get("nearest_folder", ""))[:80]
        cached = cached or (f"there is `{folder}`" if folder and not meant else "")
        fixes: tuple[Fix, ...] = plain_fix(self, hide_logins(hit["path"] or hit["missing"]), meant) or renamed_fix(
            self, seen.facts
        )
        fixes += cache_fixes(self, seen.facts)
        if bad_token and seen.get("token"):
            fixes += anonymous_fix(self, seen.facts)
        return self.found(
            f"{title}; {cached}"[:200] if cached else title[:200],
            Certainty.CONFIRMED if seen and (hit["missing"] or hit["invalid"] or status) else Certainty.LIKELY,
            what="The Hub does not hand out this repository to this user.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _unsent(self, failure: Failure, seen: Evidence) -> Diagnosis | None:
        """The token cannot be sent; it is neither looked at nor shown."""
        if not passes(failure, HUB_CLIENT):
            return None
        source, _ = _TOKENS.get(str(seen.get("token", "")), (f"of {seen.get('token')}", ""))
        return self.found(
            f"The token {source} has a line break or a blank in it, and cannot be sent",
            Certainty.CONFIRMED,
            what="A token goes into one line of the request, and nothing was asked.",
            why="Read from a file it mostly ends with a line break: pass `token.strip()`.",
            evidence=seen.seen,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_remedy(fix, scene)


def _status(failure: Failure, hit: Hit) -> int:
    """The status in the sentence with which huggingface_hub begins these errors (``403 Client Error. (Request ID: …)``)."""
    found = re.search(r"\b(40[134]) Client Error\b", hit.raised.message) or failure.says(r"\b(40[134]) Client Error\b")
    return int(found[1]) if found else 0


def _told(hit: Hit, status: int, seen: Evidence, bad_token: bool) -> tuple[str, str, str]:
    """The title, why, and the name that was meant (empty: not certain)."""
    login = "" if not seen or seen.get("token") else " No token was found here: log in with `hf auth login`."
    if bad_token or hit["token"]:
        return *_token_told(bad_token, str(seen.get("token", ""))), ""
    if hit["closed"] and not re.search("gated", hit.raised.message, re.IGNORECASE):
        said = re.search(r"403 Forbidden: ([^\n]{1,80}?)\.?\n", hit.raised.message)
        title = f"The Hub forbids `{hit['closed'][:80]}` to this user (HTTP 403){f': {said[1]}' if said else ''}"
        return title, f"The account of the token, or the token's own permissions, do not reach so far.{login}", ""
    if hit["gated"] or hit["locked"] or hit["closed"]:
        found = re.search(r"access to it at https?://[^/\s]+/([\w.-]+/[\w-]+(?:\.[\w-]+)*)", hit.raised.message)
        repo = hit["locked"] or hit["closed"] or (found[1] if found else "") or str(seen.get("repo", ""))
        named = f"`{repo[:100]}`" if repo else "The repository"
        lacks = {401: "no valid token was sent (HTTP 401)", 403: "this account has no access (yet) (HTTP 403)"}
        told = lacks.get(status, "this user has no access to it (yet)")
        why = f"Its licence must be accepted on its page by the account of the token.{login}"
        return f"{named} is gated: {told}", why, ""
    name = hide_logins(hit["missing"] or hit["path"] or hit["absent"] or hit["repo"] or hit["repo5"])
    hosted = name.lower().startswith(("huggingface.co/", "hf.co/"))
    wrong = read_name(name, str(seen.get("endpoint", ""))) if hit["invalid"] or name == "None" or hosted else None
    if wrong is not None:
        return wrong.told, wrong.why or "Give the name alone.", wrong.meant
    name = name[:100]
    if seen.get("file"):
        return f"`{name}` is a file, and this call takes a folder or a repository's name", "It reads several files.", ""
    if hit["invalid"] and REPOSITORY.fullmatch(name.rstrip("/")) and name.endswith("/"):
        title = f"There is no folder `{name}` here, and with a slash at its end it cannot be a repository's name"
        return title, "For a repository leave the slash out.", ""
    if hit["invalid"] or (hit["missing"] and (not REPOSITORY.fullmatch(name) or name.startswith("."))):
        if seen.get("folder"):
            title = f"`{name}` is a folder, and this call takes a repository's name"
            return title, "Give the folder to `from_pretrained`.", ""
        here = seen.get("cwd")
        why = f"A relative path starts at {here}." if here else "A relative path starts where Python runs."
        return f"There is no folder `{name}` here, and it cannot be a repository's name", why, ""
    if hit["missing"] or hit["absent"]:
        why = f"The Hub answers alike for names that do not exist and for private repositories.{login}"
        return f"`{name}` is neither a folder here nor a repository that the Hub shows you", why, ""
    return f"The Hub refused `{name}` with HTTP {status}", f"Private, gated, or no such name.{login}", ""


_HUB = re.compile(r"hf auth login|huggingface|hugging face|HF_TOKEN", re.IGNORECASE)
_TOKENS = {
    "": ("that was sent", "It was revoked or misspelt: log in again."),
    "file": (
        "of the login on this machine",
        "It was revoked: `hf auth login` stores a new one, `hf auth logout` drops it.",
    ),
    "argument": ("passed as `token=`", "It was revoked or misspelt: pass another, or none for a public repository."),
}
"""Where a token comes from → how it is told, and what helps."""


def _token_told(refused: bool, source: str) -> tuple[str, str]:
    if not refused:
        return "The Hub wants a token, and none was found", "Log in with `hf auth login`, or pass `token=`."
    set_it = (
        f"of {source}",
        f"It was revoked or misspelt, and {source} goes before a login: set it anew, or unset it.",
    )
    told, why = _TOKENS.get(source, set_it)
    return f"The Hub refuses the token {told} (HTTP 401)", f"{why} Even public repositories are refused with it."
