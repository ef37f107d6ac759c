from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import REPOSITORY, HubCacheProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules.hub._causes import find_cause
from tfdiag_ipython.rules.hub._examples import CACHED, FOLDERS, MISSPELT, ONE_MISSING, ONLINE
from tfdiag_ipython.rules.hub._remedies import OFFERS, RENAMES, cache_fixes, cache_told, plan_remedy, renamed_fix

BAD_TOKEN = re.compile(r"Invalid credentials in Authorization header|Invalid user token")
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
    `use-cached-name` and `use-nearest-folder` (unsafe: another model) edit the name to the nearest one that is here. `go-offline` and
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
        r"|Repo id must (?:be|use)[^\n]{1,200}?: '(?P<path>[^'\n]{1,300})'"
        r"|Incorrect path_or_model_id: '(?P<odd>[^'\n]{1,300})'"
        r"|(?P<gated>trying to access a gated repo|Access to (?:model|dataset) \S+ is restricted)"
        r"|(?P<token>Token is required \(`?token=True`?\)|Invalid user token\.[^\n]{0,200}(?:logged in|environment variable|[Hh]ugging ?[Ff]ace))"
        rf"|Cannot access content at: {NAMED}(?P<closed>[\w.-]*\w(?:/(?!resolve/)[\w.-]*\w)?)"
        rf"|Cannot access gated repo for url {NAMED}(?P<locked>[\w.-]*\w(?:/(?!resolve/)[\w.-]*\w)?)"
        rf"|Repository Not Found for url: {NAMED}(?P<absent>[\w.-]*\w(?:/(?!resolve/|revision/|tree/)[\w.-]*\w)?)"
        r"|(?P<status>40[134]) Client Error: [\w ]{1,40} for url: https://(?:huggingface\.co|hf\.co)/"
        r"(?:api/(?:models|datasets|spaces)/)?(?P<repo>[\w.-]+(?:/(?!resolve/)[\w.-]+)?)"
        r"|Client error '(?P<status5>40[134]) [\w ]{1,40}' for url '?https://(?:huggingface\.co|hf\.co)/"
        r"(?:api/(?:models|datasets|spaces)/)?(?P<repo5>[\w.-]+(?:/(?!resolve/)[\w.-]+)?)"
    )
    needs = (HubCacheProbe,)
    fixes = (*RENAMES, *OFFERS)
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
            title="does not accept the token",
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
        NoMatch(text="ValueError: Repo id must be given"),
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
        cause = find_cause(failure.chain[hit.position :])
        status = int(hit["status"] or hit["status5"] or 0) or cause.status or _status(failure, hit)
        title, why = _told(hit, status, seen, bool(failure.says(BAD_TOKEN)))
        cached = cache_told(seen.facts) if seen.get("complete") or seen.get("nearest") else ""
        folder = str(seen.get("nearest_folder", ""))[:80]
        cached = cached or (f"there is `{folder}`" if folder else "")
        fixes: tuple[Fix, ...] = (*renamed_fix(self, seen.facts), *cache_fixes(self, seen.facts))
        return self.found(
            f"{title}; {cached}"[:200] if cached else title,
            Certainty.CONFIRMED
            if seen and (hit["missing"] or hit["path"] or hit["odd"] or status)
            else Certainty.LIKELY,
            what="The Hub does not hand out this repository to this user.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_remedy(fix, scene)


def _status(failure: Failure, hit: Hit) -> int:
    """The status in the sentence with which huggingface_hub begins these errors (``403 Client Error. (Request ID: …)``)."""
    found = re.search(r"\b(40[134]) Client Error\b", hit.raised.message) or failure.says(r"\b(40[134]) Client Error\b")
    return int(found[1]) if found else 0


def _told(hit: Hit, status: int, seen: Evidence, bad_token: bool) -> tuple[str, str]:
    """The title, and why."""
    login = "" if not seen or seen.get("token") else " No token was found here: log in with `hf auth login`."
    if hit["token"] and "required" in hit["token"]:
        return "The Hub wants a token, and none was found", "Log in with `hf auth login`, or pass `token=`."
    if bad_token or hit["token"]:
        return "The Hub does not accept the token that was sent (HTTP 401)", "It was revoked or misspelt: log in again."
    if hit["missing"] == "None":
        return (
            "None was given in place of a repository's name or a folder",
            "The variable that should hold the name is None.",
        )
    if hit["gated"] or hit["locked"] or hit["closed"]:
        found = re.search(r"access to it at https?://[^/\s]+/([\w.-]+/[\w-]+(?:\.[\w-]+)*)", hit.raised.message)
        repo = hit["locked"] or hit["closed"] or (found[1] if found else "") or str(seen.get("repo", ""))
        named = f"`{repo[:100]}`" if repo else "The repository"
        lacks = {401: "no valid token was sent (HTTP 401)", 403: "this account has no access (yet) (HTTP 403)"}
        told = lacks.get(status, "this user has no access to it (yet)")
        return (
            f"{named} is gated: {told}",
            f"Its licence must be accepted on its page by the account of the token.{login}",
        )
    name = (hit["missing"] or hit["path"] or hit["odd"] or hit["absent"] or hit["repo"] or hit["repo5"])[:100]
    if hit["path"] or hit["odd"] or (hit["missing"] and (not REPOSITORY.fullmatch(name) or name.startswith("."))):
        if seen.get("folder"):
            return (
                f"`{name}` is a folder, and this call takes a repository's name",
                "Give the folder to `from_pretrained`.",
            )
        why = f"A relative path starts at {seen.get('cwd')}." if seen else "A relative path starts where Python runs."
        return f"There is no folder `{name}` here, and it cannot be a repository's name", why
    if hit["missing"] or hit["absent"]:
        why = f"The Hub answers alike for names that do not exist and for private repositories.{login}"
        return f"`{name}` is neither a folder here nor a repository that the Hub shows you", why
    return f"The Hub refused `{name}` with HTTP {status}", f"Private, gated, or no such name.{login}"
