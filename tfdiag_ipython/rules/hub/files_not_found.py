from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.addresses import hide_logins
from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, passes, raised_by_hand
from tfdiag_ipython.rules.hub._examples import CACHED, ONE_REVISION, ONLINE
from tfdiag_ipython.rules.hub._remedies import REVISION, plan_remedy, revision_fix

_TOKENIZERS = re.compile(r"tokenization_\w{1,100}\.py|sentencepiece")
_OTHERS = re.compile(r"\b(?:paddlenlp|mindnlp|tensorflow_text)\b")
_NAMES = (
    r"(?:config|tokenizer\w{0,60}|vocab\w{0,60}|processor\w{0,60}|model_index|model|\.index)"
    r"\.(?:json|txt|bin|model|safetensors)"
)


class FilesNotFound(Rule):
    """A folder or repository lacks the configuration, tokenizer or processor files that were asked for.

    *What it means*
    The name was found or assumed to be a place with these files, and they are not there.

    *Why it happens*
    An adapter or weights only; a cache folder (`models--…`) given as a path; a misspelt path taken for a repository's name; a local
    folder of the same name; or the Hub could not be reached.

    *How tfdiag confirms it*
    It reads the place and the file from the message, and for a revision looks which ones the local cache has.

    *Fixes and their safety*
    `use-cached-revision` (unsafe: another state of the model) edits the call to a branch or tag that was downloaded before.

    *Example*
    `GenerationConfig.from_pretrained("./adapter")`, where no `generation_config.json` was saved.

    *References*
    transformers: `utils/hub.py`, `cached_files`; `tokenization_utils_base.py`, `from_pretrained`.
    """

    code = "HUB003"
    name = "files-not-found"
    raised = (
        "builtins.OSError",
        "builtins.TypeError",
        "builtins.ValueError",
        "EntryNotFoundError",
        "RemoteEntryNotFoundError",
        "RevisionNotFoundError",
    )
    message = re.compile(
        r"Can't load (?P<kind>tokenizer|feature extractor|image processor|processor|video processor|the configuration|config|weights"
        r"|the model) (?:for|of) '(?P<name>[^']{1,300})'(?!.{0,300}'BOS')(?!.{0,700}named (?:one of )?tf_model\.h5)"
        r"|Model name '(?P<old>[^']{1,300})' was not found in (?:tokenizers )?model name list"
        r"|(?<!\S)(?P<place>\S+) does not appear to have a file named (?P<file>[\w./-]*\w\.(?:json|txt|model|jinja|py)\b)"
        r"|Entry Not Found for url: https?://[^\s/]{1,300}/(?P<repo>[\w.-]+/[\w.-]+)/resolve/[^/\s]+/(?P<entry>\S+?)\.?(?:\s|$)"
        r"|Revision Not Found for url: https?://[^\s/]{1,300}/(?:api/models/)?(?P<repository>[\w.-]+/[\w.-]+)/\w+/(?P<revision>[^/\s]{0,300}[^/\s.])"
        r"|(?<!\S)(?P<branch>\S+) is not a valid git identifier"
        r"|No such file or directory: '(?P<cache>[^'\n]{0,600}?models--[^'\n]{1,600})'"
        rf"|No such file or directory: '(?P<absent>[^'\n]{{0,600}}?{_NAMES})'"
        rf"|\Afile (?P<older>\S{{0,600}}?{_NAMES}) not found\s*(?:\Z|\n)"  # transformers 3
        r"|\ANot found: \"(?P<spm>[^\"\n]+)\": No such file or directory Error #\d"  # sentencepiece
        r"|Calling \w+\.from_pretrained\(\) with the path to a (?P<single>single file or url) is not supported"
        r"|(?P<nothing>^not a string|expected str, bytes or os\.PathLike object, not NoneType"
        r"|path should be string, bytes, os\.PathLike or integer, not NoneType)",
        re.DOTALL,
    )
    needs = (HubCacheProbe,)
    fixes = (REVISION,)
    CASES = (
        Match(
            text="OSError: Can't load tokenizer for 'acme/tiny'. If you were trying to load it from 'https://huggingface.co/models'",
            certainty=Certainty.LIKELY,
            title="No tokenizer files .*`acme/tiny`",
        ),
        Match(
            text="OSError: Can't load tokenizer for '/home/me/.cache/huggingface/hub/models--acme--tiny'. If you were trying to load it",
            title="cache folder",
        ),
        Match(
            text="OSError: Model name './tiny' was not found in tokenizers model name list (bert-base-uncased).",
            title="`./tiny`",
        ),
        Match(
            text="OSError: Can't load config for 'acme/tiny'. Make sure that:\n\n- 'acme/tiny' is a correct model identifier listed on "
            "'https://huggingface.co/models'\n\n- or 'acme/tiny' is the correct path to a directory containing a config.json file",
            title="No config files .*`acme/tiny`",
        ),
        Match(
            text="huggingface_hub.errors.EntryNotFoundError: 404 Client Error. (Request ID: Root=1-6)\n\nEntry Not Found for url: "
            "https://huggingface.co/acme/tiny/resolve/main/model_index.json.",
            title="No model_index.json .*`acme/tiny`",
        ),
        Match(
            text="FileNotFoundError: [Errno 2] No such file or directory: '/home/me/.cache/huggingface/hub/models--acme--tiny/refs/main'",
            title="cache .*incomplete",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/models/llama/tokenization_llama.py", line 72, in __init__\n'
            "    self.sp_model.Load(vocab_file)\nTypeError: not a string",
            title="vocabulary file",
        ),
        NoMatch(
            text='Traceback (most recent call last):\n  File "/x/paddlenlp/transformers/llama/tokenizer.py", line 72, in __init__\n'
            '    self.sp_model.Load(vocab_file)\n  File "/x/sentencepiece/__init__.py", line 310, in LoadFromFile\nTypeError: not a string'
        ),
        NoMatch(text="TypeError: expected str, bytes or os.PathLike object, not NoneType"),
        Match(text="OSError: file ./tiny/config.json not found", title=r"no file `\./tiny/config\.json`"),
        NoMatch(text="OSError: file ./tiny/prices.json not found"),
        NoMatch(text="OSError: file config.json not found on the server"),
        NoMatch(text="FileNotFoundError: [Errno 2] No such file or directory: 'config.json'"),
        NoMatch(
            text="RuntimeError: Can't load tokenizer for 'ernie'.\nPlease make sure that 'ernie' is a correct model-identifier of "
            "built-in pretrained models"
        ),
        Match(
            text="OSError: ./tiny does not appear to have a file named spiece.model.",
            title=r"No spiece\.model .*`\./tiny`",
        ),
        NoMatch(text="FileNotFoundError: shop does not appear to have a file named prices.csv"),
        NoMatch(text="OSError: a/b does not appear to have a file named pytorch_model.bin.", code="CKP001"),
        Reproduce(
            (
                "import tempfile\nfrom transformers import GenerationConfig\nfolder = tempfile.mkdtemp()",
                "GenerationConfig.from_pretrained(folder)",
            ),
            title=r"generation_config\.json",
            certainty=Certainty.LIKELY,
            environment={"HF_HUB_OFFLINE": "1"},
            isolated=True,
        ),
        Reproduce(
            (ONE_REVISION, CACHED, "config = AutoConfig.from_pretrained('acme/tiny-bert', revision='v9')"),
            title="No revision `v9` in `acme/tiny-bert`; the local cache has main",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-cached-revision"),),
            environment=ONLINE,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if raised_by_hand(hit.raised):
            return None  # words of the person's own
        if hit["nothing"]:
            return self._no_vocabulary(failure)
        if hit["absent"] and not passes(failure, TRANSFORMERS):
            return None  # a file of the person's own program
        if hit["cache"]:
            return self.found(
                f"The Hub's cache is incomplete: `{hit['cache'][-100:]}` is missing",
                Certainty.LIKELY,
                what="The cache folder of this repository exists, and a file that its layout needs does not.",
                why="A download was cut short, or the folder was copied or cleaned by hand: delete it and load again.",
            )
        if hit["single"]:
            return self.found(
                "One file was given to from_pretrained, which needs a folder or a repository's name",
                Certainty.LIKELY,
                what="This class reads more than one file, so the path of one of them is not enough.",
            )
        place = hide_logins(
            hit["name"] or hit["old"] or hit["place"] or hit["repo"] or hit["absent"] or hit["older"] or hit["spm"]
        )[-100:]
        wanted = hit["file"] or hit["entry"] or ("weights" if hit["kind"] in {"weights", "the model"} else "")
        wanted = wanted or (f"{hit['kind'].removeprefix('the ')} files" if hit["kind"] else "vocabulary files")
        if hit["revision"] or hit["branch"]:
            return self._no_revision(hit["revision"] or hit["branch"], hit["repository"], evidence[HubCacheProbe.name])
        if hit["absent"] or hit["older"] or hit["spm"]:
            title = f"There is no file `{place}`"
        elif re.search(r"models--[^/\\]+[/\\]?$", place):
            title = f"`{place}` is a cache folder, not a model's folder: the files lie in its snapshots/<commit>"
        else:
            title = f"No {wanted} found for `{place}`"
        return self.found(title, Certainty.LIKELY, what="What was asked for is not where the library looked.")

    def _no_revision(self, revision: str, repository: str, seen: Evidence) -> Diagnosis:
        place = (repository or str(seen.get("repo", "")))[-100:]
        asked = str(seen.get("revision", ""))
        others = [str(name) for name, _ in seen.get("others", ())]
        fixes: tuple[Fix, ...] = revision_fix(
            self, seen.facts, next((name for name in others if name in seen["refs"]), "")
        )
        known = ", ".join(list(seen.get("refs", {}))[:5])[:60]
        title = f"No revision `{revision[:60]}`{f' in `{place}`' if place else ''}"
        if asked != revision and asked.strip() == revision:
            title = f"The revision {asked[:60]!r}{f' of `{place}`' if place else ''} has a blank beside its name"
        return self.found(
            f"{title}; the local cache has {known}" if known else title,
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="The repository exists, and has no branch, tag or commit of this name.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_remedy(fix, scene)

    def _no_vocabulary(self, failure: Failure) -> Diagnosis | None:
        """A tokenizer opens its vocabulary file whether it was found or not; elsewhere the message says nothing."""
        if not failure.says(r"tokenization_|sentencepiece") and not passes(failure, _TOKENIZERS):
            return None
        if passes(failure, _OTHERS):
            return None  # another library's tokenizers
        return self.found(
            "The tokenizer's vocabulary file was not found: it was looked for as None",
            Certainty.LIKELY,
            what="from_pretrained found a configuration but no vocabulary (tokenizer.model, vocab.json, vocab.txt, spm.model).",
            why="The folder holds no tokenizer, or another kind of it: save the tokenizer there, or use the class that it was saved with.",
        )
