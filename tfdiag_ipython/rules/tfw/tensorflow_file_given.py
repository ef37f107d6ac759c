from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.convert import SOURCE
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_folder import ModelFolderProbe
from tfdiag_ipython.probes.weights_folder import WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tfw._convert import CONVERT, SHARD, offer_conversion, path_told, plan_conversion, reader_told
from tfdiag_ipython.rules.tfw._formats import OPENED_BY

SETUP = """
import tempfile
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
from tfdiag_ipython.rules.tfw._h5_example import save_tensorflow_bert
folder = tempfile.mkdtemp()
save_tensorflow_bert(folder)
file = folder + "/tf_model.h5"
"""
H5PY = ("torch", "transformers", "h5py")
GIVEN = "OSError: It looks like the config file at './b/tf_model.h5' is not a valid JSON file."


class TensorFlowFileGiven(Rule):
    """A file of TensorFlow or Keras weights was given in the place of the model's folder.

    *What it means*
    `from_pretrained` takes a folder (or a repository's name), finds the weights in it by their names, and reads PyTorch's formats only.

    *Why it happens*
    Keras's `load_model` and `load_weights` take a file, and old examples gave `from_pretrained` one, too.

    *How tfdiag confirms it*
    It tells by the file's first bytes what it really is, and looks at the `config.json` beside it.

    *Fixes and their safety*
    `convert-to-safetensors` (unsafe: the call then loads the folder) writes `model.safetensors` beside a `tf_model.h5`, without
    TensorFlow, after checking every name and shape, and gives the folder to the call.

    *Example*
    `AutoModel.from_pretrained("./bert/tf_model.h5")`

    *References*
    transformers: `configuration_utils.py`, `PretrainedConfig._get_config_dict`; `modeling_utils.py`.
    """

    code = "TFW013"
    name = "tensorflow-file-given"
    raised = (
        "builtins.OSError",
        "builtins.ValueError",
        "UnpicklingError",
        "HFValidationError",
        "builtins.UnicodeDecodeError",
    )
    specific = True
    message = re.compile(
        r"is not a valid JSON file|Repo id must be in the form|Weights only load failed|Unable to load weights from|invalid load key"
        r"|codec can't decode byte|is not a local folder|Can't load the (?:model|configuration)"
    )
    needs = (WeightsFolderProbe, ModelFolderProbe)
    fixes = (Offer(CONVERT, Applicability.UNSAFE),)
    CASES = (
        Match(
            text=GIVEN,
            evidence={
                "weights-folder": {
                    "path": "./b/tf_model.h5",
                    "folder": "",
                    "files": ({"name": "tf_model.h5", "size": 440_000_000, "kind": "HDF5 (Keras weights)", "framework": "tensorflow"},),
                    "model_type": "bert",
                    "architectures": ("BertForMaskedLM",),
                    "config": True,
                    "writable": True,
                    "h5py": True,
                },
                "model-folder": {"asked": "AutoModel"},
            },
            certainty=Certainty.CONFIRMED,
            title=r"`\./b/tf_model.h5` holds TensorFlow weights; AutoModel takes a folder, and transformers 5 cannot read them",
            fixes=(CONVERT,),
        ),
        NoMatch(text=GIVEN, code="CFG003"),
        NoMatch(text="ValueError: settings.h5 is not a valid JSON file"),
        *(
            Reproduce(
                (SETUP, f"model = {loader}.from_pretrained(file{more})"),
                title=r"tf_model\.h5` holds TensorFlow weights; \w+ takes a folder",
                certainty=Certainty.CONFIRMED,
                fixes=(Try(CONVERT),),
                needs=H5PY,
            )
            for loader, more in (
                ("AutoModelForSequenceClassification", ""),
                ("BertForSequenceClassification", ""),
                ("BertForSequenceClassification", ", config=BertConfig.from_pretrained(folder)"),
            )
        ),
        Reproduce(
            (
                f"{SETUP}import os\nos.remove(file)\nfile = folder + '/model.keras'\nimport zipfile\n"
                "with zipfile.ZipFile(file, 'w') as archive:\n    archive.writestr('config.json', '{}')\n"
                "    archive.writestr('metadata.json', '{\"keras_version\": \"3.0\"}')\n    archive.writestr('model.weights.h5', '')",
                "model = AutoModelForSequenceClassification.from_pretrained(file)",
            ),
            title=r"model\.keras` is a whole Keras model \(\.keras\), which only Keras's load_model opens",
            certainty=Certainty.CONFIRMED,
            needs=H5PY,
        ),
    )  # fmt: skip

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[WeightsFolderProbe.name]
        files = weight_files(seen, "tensorflow") if seen and not seen["folder"] else []
        if not files or files[0].problem:
            return None
        held, where = evidence[ModelFolderProbe.name], path_told(seen["path"])
        asked = str(held["asked"]) if held else "from_pretrained"
        fixes: tuple[Fix, ...] = ()
        if files[0].name == SOURCE or SHARD.fullmatch(files[0].name):
            title = f"{where} holds TensorFlow weights; {asked} takes a folder, and {reader_told(failure)}"
            why = "Its weights must be converted once; then any version loads the folder."
            fixes = self._conversion(seen, asked)
        else:
            kind, why = OPENED_BY.get(
                files[0].kind, ("a part of a TensorFlow checkpoint", "Its other files are missing.")
            )
            title = f"{where} is {kind}"
        return self.found(
            title[:200],
            Certainty.CONFIRMED,
            what="from_pretrained was given one file, of a format that it does not read.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _conversion(self, seen: Evidence, asked: str) -> tuple[Fix, ...]:
        """The conversion of the file in its folder, after which the call loads that folder."""
        folder = os.path.dirname(str(seen["path"])) or "."
        inside = Evidence(MappingProxyType({**seen.facts, "folder": folder}), seen.seen)
        unsafe = (
            fix
            if fix.applicability is Applicability.DISPLAY_ONLY
            else replace(
                fix,
                applicability=Applicability.UNSAFE,
                explanation=f"{fix.explanation} The call then loads the folder.",
                parameters={**fix.parameters, "asked": asked},
            )
            for fix in offer_conversion(self, inside)
        )
        return tuple(unsafe)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_conversion(fix, scene)
