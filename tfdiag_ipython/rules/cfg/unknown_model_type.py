from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import passes

_AUTO = re.compile(r"configuration_auto\.py")

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
        r"Unrecognized (?P<part>model|model identifier|image processor|video processor|feature extractor|processing class) in "
        r"(?P<where>.{1,300}?)[. ]{1,2}(?:Should (?:have a|contains? one of)|Can't instantiate)"
        r"|has model type `(?P<type>[\w.-]+)` but Transformers does not recognize this architecture"
        r"|\A'(?P<key>[\w.-]+)'\Z"
    )
    CASES = (
        Match(
            text="ValueError: Unrecognized model in ./out. Should have a `model_type` key in its config.json, or contain one of",
            certainty=Certainty.LIKELY,
            title=r"`\./out` names no model type",
        ),
        Match(
            text="ValueError: Unrecognized image processor in acme/eyes. Should have a `image_processor_type` key in its "
            "preprocessor_config.json of config.json, or one of the following `model_type` keys in its config.json: align",
            title=r"`acme/eyes` names no image processor",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/models/auto/configuration_auto.py", line 790, in from_pretrained\n'
            "    config_class = CONFIG_MAPPING[config_dict[\"model_type\"]]\nKeyError: 'acme5'",
            certainty=Certainty.LIKELY,
            title="model type `acme5`",
        ),
        NoMatch(text="KeyError: 'llama'"),
        NoMatch(
            text="Traceback (most recent call last):\n  File \"/x/shop.py\", line 7, in sell\n    prices[name]\nKeyError: 'llama'"
        ),
        NoMatch(text="ValueError: Unrecognized model in the shop window."),
        Reproduce(
            (SETUP, "AutoConfig.from_pretrained(folder)"), title="model type `nosuchtype`", certainty=Certainty.LIKELY
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["key"] and not hit.raised.is_a("KeyError"):
            return None
        if hit["key"] and not failure.says(r"configuration_auto|CONFIG_MAPPING") and not passes(failure, _AUTO):
            return None  # a key of the person's own dictionary
        known = hit["type"] or hit["key"]
        if known:
            version = failure.versions.get("transformers", "")
            title = f"transformers {version} does not know the model type `{known}`".replace("  ", " ")
        elif hit["part"] not in {"model", "model identifier"}:
            part = "processor or tokenizer" if hit["part"] == "processing class" else hit["part"]
            title = f"`{hit['where'][:120]}` names no {part} that this version knows"
        else:
            title = f"The configuration of `{hit['where'][:120]}` names no model type that this version knows"
        return self.found(title, Certainty.LIKELY, what="Without a known `model_type` no auto class can be chosen.")
