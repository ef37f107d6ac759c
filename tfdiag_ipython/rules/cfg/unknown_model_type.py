from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule

SETUP = """
import json, pathlib, tempfile
from transformers import AutoConfig
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "config.json").write_text(json.dumps({"model_type": "nosuchtype"}))
"""


class UnknownModelType(Rule):
    """The checkpoint's configuration names no model type, or one that this version does not know.

    *What it means*
    `model_type` in `config.json` decides which classes are used. It is missing, or the installed transformers has no such type.

    *Why it happens*
    The model is newer than the library, or the folder is an adapter, a GGUF file's or another library's.

    *How tfdiag confirms it*
    It reads the model type or the checkpoint from the message.

    *Fixes and their safety*
    None is carried out.

    *Example*
    `AutoConfig.from_pretrained(folder)` where `config.json` holds a `model_type` of a later version.

    *References*
    transformers: `models/auto/configuration_auto.py`, `AutoConfig.from_pretrained`.
    """

    code = "CFG002"
    name = "unknown-model-type"
    message = re.compile(
        r"Unrecognized model in (?P<where>.{1,300}?)\. Should have a `model_type` key"
        r"|has model type `(?P<type>[\w.-]+)` but Transformers does not recognize this architecture"
    )
    CASES = (
        Match(
            text="ValueError: Unrecognized model in ./out. Should have a `model_type` key in its config.json, or contain one of",
            certainty=Certainty.LIKELY,
            title=r"`\./out` names no model type",
        ),
        NoMatch(text="ValueError: Unrecognized model in the shop window."),
        Reproduce(
            (SETUP, "AutoConfig.from_pretrained(folder)"), title="model type `nosuchtype`", certainty=Certainty.LIKELY
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["type"]:
            version = failure.versions.get("transformers", "")
            title = f"transformers {version} does not know the model type `{hit['type']}`".replace("  ", " ")
        else:
            title = f"The configuration of `{hit['where'][:120]}` names no model type that this version knows"
        return self.found(title, Certainty.LIKELY, what="Without a known `model_type` no auto class can be chosen.")
