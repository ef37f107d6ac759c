from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.model_folder import ModelFolderProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule
from tfdiag_ipython.rules._places import passes

_AUTO = re.compile(r"configuration_auto\.py")

SETUP = """
import json, os, pathlib, shutil, tempfile
from transformers import AutoConfig
folder = pathlib.Path(tempfile.gettempdir()) / f"000{os.getpid()}"  # transformers 4 looks for model types in the name
shutil.rmtree(folder, ignore_errors=True)
folder.mkdir()
(folder / "config.json").write_text(json.dumps({"model_type": "nosuchtype"}))
"""
UNRECOGNIZED = "ValueError: Unrecognized model in out. Should have a `model_type` key in its config.json."
FOLDER: dict[str, object] = {
    "path": "out",
    "files": (),
    "config": False,
    "model_type": "",
    "adapter": False,
    "base": "",
    "gguf": (),
    "nested": (),
}


class UnknownModelType(Rule):
    """The checkpoint's configuration names no model type, or one that this version does not know.

    *What it means*
    `model_type` in `config.json` decides which classes are used. It is missing, or the installed transformers has no such type.

    *Why it happens*
    The model is newer than the library, or the folder is an adapter, a GGUF file's or another library's.

    *How tfdiag confirms it*
    It looks into the folder that was given: whether there is a `config.json` and what its `model_type` is, whether it is a PEFT adapter and
    of which model, a GGUF file, or a folder whose subfolder holds the model.

    *Fixes and their safety*
    All are only shown, since they need another name or package: `load-base-model` for an adapter, `pass-gguf-file`, `use-nested-folder`.

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
    needs = (ModelFolderProbe,)
    fixes = (
        Offer("load-base-model", Applicability.DISPLAY_ONLY),
        Offer("pass-gguf-file", Applicability.DISPLAY_ONLY),
        Offer("use-nested-folder", Applicability.DISPLAY_ONLY),
    )
    CASES = (
        Match(
            text=UNRECOGNIZED,
            evidence={
                "model-folder": FOLDER | {"files": ("adapter_config.json",), "adapter": True, "base": "acme/base"}
            },
            certainty=Certainty.CONFIRMED,
            title="`out` is a PEFT adapter of `acme/base`",
            fixes=("load-base-model",),
        ),
        Match(
            text=UNRECOGNIZED,
            evidence={"model-folder": FOLDER | {"files": ("m.gguf",), "gguf": ("m.gguf",)}},
            certainty=Certainty.CONFIRMED,
            title="`out` holds a GGUF file",
            fixes=("pass-gguf-file",),
        ),
        Match(
            text=UNRECOGNIZED,
            evidence={"model-folder": FOLDER | {"files": ("checkpoint-500",), "nested": ("checkpoint-500",)}},
            certainty=Certainty.CONFIRMED,
            title="`out` holds no config.json, `out/checkpoint-500` does",
            fixes=("use-nested-folder",),
        ),
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
            (
                SETUP,
                "(folder / 'config.json').unlink()\n(folder / 'adapter_config.json').write_text("
                "json.dumps({'base_model_name_or_path': 'acme/base'}))",
                "AutoConfig.from_pretrained(folder)",
            ),
            title="is a PEFT adapter of `acme/base`",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                SETUP,
                "(folder / 'snapshots' / '0123').mkdir(parents=True)\n"
                "(folder / 'config.json').rename(folder / 'snapshots' / '0123' / 'config.json')",
                "AutoConfig.from_pretrained(folder)",
            ),
            title="holds no config.json, .*snapshots/0123` does",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP, "(folder / 'config.json').unlink()", "AutoConfig.from_pretrained(folder)"),
            title="holds no config.json",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP, "(folder / 'config.json').write_text('{}')", "AutoConfig.from_pretrained(folder)"),
            title=r"config.json` names no `model_type`",
            certainty=Certainty.CONFIRMED,
        ),
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
            held = evidence[ModelFolderProbe.name]
            if held:
                return self._looked(held)
            title = f"The configuration of `{hit['where'][:120]}` names no model type that this version knows"
        return self.found(title, Certainty.LIKELY, what="Without a known `model_type` no auto class can be chosen.")

    def _looked(self, held: Evidence) -> Diagnosis:
        """What the folder is, and what is to be done with one of its kind."""
        path = str(held["path"])[:120]
        offered: tuple[Fix, ...] = ()
        why = "The files of a model are its `config.json` and its weights; `save_pretrained` writes both."
        if held["adapter"]:
            base = held["base"] or "another model"
            title = f"`{path}` is a PEFT adapter of `{base}`, not a model: load that model, then the adapter"
            why = "An adapter holds only the weights that were trained on top of its base model."
            call = f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{path}")'
            offered = (
                self.offer("load-base-model", f"Load {base}, then the adapter", f"With peft, for example: {call}"),
            )
        elif held["gguf"] and not held["config"]:
            name = held["gguf"][0]
            title = f"`{path}` holds a GGUF file ({name}) and no Transformers configuration"
            why = "Transformers reads a GGUF file only when it is named, and only of some architectures."
            offered = (self.offer("pass-gguf-file", f'Pass gguf_file="{name}"', "The package gguf must be installed."),)
        elif held["config"]:
            title = f"`{path}/config.json` names no `model_type`, so no auto class can be chosen"
            why = "It is of a version before 2020 or of another library: load it with the model's own class, or write the type into it."
        elif held["nested"]:
            inner = f"{path}/{held['nested'][-1]}"
            title = f"`{path}` holds no config.json, `{inner}` does: load that folder"
            offered = (self.offer("use-nested-folder", f"Load {inner}"),)
        else:
            title = f"`{path}` holds no config.json: it is not the folder of a saved model"
        count = len(held["files"])
        what = f"{count} file{'' if count == 1 else 's'} {'is' if count == 1 else 'are'} there, and none says which model it is."
        return self.found(title, Certainty.CONFIRMED, what=what, why=why, evidence=held.seen, fixes=offered)
