from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class RepositoryRefused(Rule):
    """The Hub does not hand out this repository: no such name, private, or gated.

    *What it means*
    The name is neither a local folder nor a repository that the Hub shows to this user.

    *Why it happens*
    A misspelt name, a path that does not exist here, a private repository without a token, or a licence not accepted yet.

    *How tfdiag confirms it*
    It reads the name and the status from the message; the Hub answers alike for private and missing repositories.

    *Fixes and their safety*
    None is carried out: access is yours to ask for.

    *Example*
    `AutoModel.from_pretrained("meta-llama/Meta-Llama-3-8B")` without access.

    *References*
    huggingface_hub: `errors.py`, RepositoryNotFoundError and GatedRepoError.
    """

    code = "HUB002"
    name = "repository-refused"
    message = re.compile(
        r"(?P<missing>\S+) is not a local folder and is not a\s+valid model identifier"
        r"|(?P<gated>trying to access a gated repo|[Cc]annot access gated repo|Access to (?:model|dataset) \S+ is restricted)"
        r"|(?P<token>Token is required \(`?token=True`?\)|Invalid user token|Invalid username or password)"
        r"|Repository Not Found for url: https://[\w.-]+/(?:api/)?(?:models/|datasets/|spaces/)?(?P<unknown>[\w.-]*\w(?:/[\w.-]*\w)?)"
        r"|Repo id must (?:be|use)[^\n]{1,200}?: '(?P<malformed>[^'\n]{1,300})'"
        r"|Incorrect path_or_model_id: '(?P<path>[^'\n]{1,300})'"
        r"|(?P<status>40[134]) Client Error: [\w ]{1,40} for url: https://(?:huggingface\.co|hf\.co)/"
        r"(?:api/)?(?:models/|datasets/)?(?P<repo>[\w.-]*\w(?:/[\w.-]*\w)?)"
    )
    CASES = (
        Match(
            text="OSError: acme/tiny is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            certainty=Certainty.LIKELY,
            title="`acme/tiny` is neither a folder",
        ),
        Match(text="OSError: You are trying to access a gated repo.\nMake sure to have access to it.", title="gated"),
        Match(
            text="requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/a/b/resolve/main/x.json",
            title="`a/b` with HTTP 401",
        ),
        Match(
            text="huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-6)\n\n"
            "Repository Not Found for url: https://huggingface.co/api/models/acme/tinny.",
            title="`acme/tinny` is neither",
        ),
        Match(
            text="huggingface_hub.errors.HFValidationError: Repo id must use alphanumeric chars or '-', '_', '.', '--' and '..' are "
            "forbidden, '-' and '.' cannot start or end the name, max length is 96: '/data/model out'.",
            title="`/data/model out` is no folder here",
        ),
        Match(
            text="OSError: Incorrect path_or_model_id: './out'. Please provide either the path to a local folder or the repo_id of a model.",
            title=r"`\./out` is no folder here",
        ),
        Match(
            text="huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-6)\n\nCannot access gated repo for url "
            "https://huggingface.co/acme/big/resolve/main/config.json.",
            title="gated",
        ),
        NoMatch(text="ValueError: Repo id must be given"),
        NoMatch(text="requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://example.org/a/b"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        path, missing = hit["malformed"] or hit["path"], hit["missing"] or hit["unknown"]
        if path:
            title = f"`{path[:120]}` is no folder here, and it cannot be a repository's name: check the path"
        elif missing:
            title = f"`{missing[:120]}` is neither a folder here nor a repository that the Hub shows you"
        elif hit["gated"]:
            title = "The repository is gated: this user has no access to it (yet)"
        elif hit["token"]:
            title = "The Hub takes no such token: log in with `hf auth login` or pass a valid `token=`"
        else:
            title = f"The Hub refused `{hit['repo'][:100]}` with HTTP {hit['status']}"
        return self.found(title, Certainty.LIKELY, what="The Hub does not hand out this repository to this user.")
