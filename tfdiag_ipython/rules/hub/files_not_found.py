from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule


class FilesNotFound(Rule):
    """A folder or repository lacks the configuration, tokenizer or processor files that were asked for.

    *What it means*
    The name was found or assumed to be a place with these files, and they are not there.

    *Why it happens*
    An adapter or weights only; a cache folder (`models--…`) given as a path; a misspelt path taken for a repository's name; a local
    folder of the same name; or the Hub could not be reached.

    *How tfdiag confirms it*
    It reads the place and the file from the message.

    *Fixes and their safety*
    None is carried out.

    *Example*
    `GenerationConfig.from_pretrained("./adapter")`, where no `generation_config.json` was saved.

    *References*
    transformers: `utils/hub.py`, `cached_files`; `tokenization_utils_base.py`, `from_pretrained`.
    """

    code = "HUB003"
    name = "files-not-found"
    message = re.compile(
        r"Can't load (?P<kind>tokenizer|feature extractor|image processor|processor|the configuration) (?:for|of) '(?P<name>[^']{1,300})'"
        r"|Model name '(?P<old>[^']{1,300})' was not found in (?:tokenizers )?model name list"
        r"|(?P<place>\S+) does not appear to have a file named (?P<file>\w*(?:config|tokenizer|vocab)\w*\.(?:json|txt))"
    )
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
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        place = (hit["name"] or hit["old"] or hit["place"])[-100:]
        wanted = hit["file"] or (f"{hit['kind'].removeprefix('the ')} files" if hit["kind"] else "vocabulary files")
        if re.search(r"models--[^/\\]+[/\\]?$", place):
            title = f"`{place}` is a cache folder, not a model's folder: the files lie in its snapshots/<commit>"
        else:
            title = f"No {wanted} found for `{place}`"
        return self.found(title, Certainty.LIKELY, what=f"`{place}` does not give {wanted}.")
