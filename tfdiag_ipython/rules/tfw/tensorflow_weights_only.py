from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.weights_folder import WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tfw._convert import (
    CONVERT,
    files_told,
    offer_conversion,
    path_told,
    plan_conversion,
    reader_told,
)

SETUP = """
import tempfile
from transformers import AutoModelForSequenceClassification
from tfdiag_ipython.rules.tfw._h5_example import save_tensorflow_bert
folder = tempfile.mkdtemp()
save_tensorflow_bert(folder)
"""
FILE = {
    "name": "tf_model.h5",
    "size": 440_000_000,
    "kind": "HDF5 (Keras weights)",
    "framework": "tensorflow",
    "problem": "",
}
SEEN = {
    "path": "./bert-tf",
    "folder": "/data/bert-tf",
    "files": (FILE,),
    "model_type": "bert",
    "architectures": ("BertForMaskedLM",),
    "config": True,
    "writable": True,
    "h5py": True,
    "at": "",
}


class TensorFlowWeightsOnly(Rule):
    """A folder or repository has TensorFlow weights only, and a PyTorch class is to load them.

    *What it means*
    `from_pretrained` of a PyTorch class looks for `model.safetensors` or `pytorch_model.bin`. There is neither, but there is
    TensorFlow's `tf_model.h5`, a SavedModel or a TensorFlow 1 checkpoint.

    *Why it happens*
    The model was trained and saved with Keras, or only that file was copied or downloaded. transformers 5 has no TensorFlow code any
    more and ignores `from_tf=True`; 4.52.4–4.57.6 accept `from_tf=True` but return a model that is wholly on the `meta` device.

    *How tfdiag confirms it*
    It lists the weight files of the folder that was given and tells by their first bytes what they really are.

    *Fixes and their safety*
    `convert-to-safetensors` (safe: the same weights under PyTorch's names) writes `model.safetensors` beside `tf_model.h5` without
    TensorFlow, after checking every name and shape against the PyTorch model of `config.json`; it overwrites nothing, and undo
    deletes the written file.

    *Example*
    `AutoModel.from_pretrained("./bert-tf")`, where `./bert-tf` holds `config.json` and `tf_model.h5`.

    *References*
    transformers: `modeling_utils.py`, `_get_resolved_checkpoint_files`; 4.57.6 `modeling_tf_pytorch_utils.py` for the names.
    """

    code = "TFW001"
    name = "tensorflow-weights-only"
    raised = ("builtins.OSError",)
    message = re.compile(
        r"Error no file named (?P<wanted>.{1,300}?),? found in directory (?P<folder>\S.*?)(?: or `from_(?:tf|pt)`|\.?\s*$| but there is)"
        r"|(?P<repo>\S+) does not appear to have a file named .{1,200}? but there is a file for TensorFlow",
        re.DOTALL,
    )
    needs = (WeightsFolderProbe,)
    fixes = (Offer(CONVERT, Applicability.SAFE),)
    links = (Link("Loading models", "https://huggingface.co/docs/transformers/models"),)
    CASES = (
        Match(
            text="OSError: Error no file named pytorch_model.bin found in directory ./bert-tf but there is a file for TensorFlow "
            "weights. Use `from_tf=True` to load this model from those weights.",
            certainty=Certainty.LIKELY,
            title=r"`\./bert-tf` holds TensorFlow weights only",
        ),
        Match(
            text="OSError: acme/tiny does not appear to have a file named pytorch_model.bin but there is a file for TensorFlow "
            "weights. Use `from_tf=True` to load this model from those weights.",
            title="`acme/tiny` holds TensorFlow weights only",
        ),
        Match(
            text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./bert-tf.",
            evidence={"weights-folder": SEEN},
            certainty=Certainty.CONFIRMED,
            title=r"`\./bert-tf` holds TensorFlow weights only \(tf_model.h5, 440 MB\)",
            fixes=(CONVERT,),
        ),
        NoMatch(
            text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./x.",
            code="CKP001",
        ),
        NoMatch(
            text="OSError: Unable to load weights from pytorch checkpoint file for './m' at './m/pytorch_model.bin'. If you tried to "
            "load a PyTorch model from a TF 2.0 checkpoint, please set from_tf=True.",
            code="CKP002",
        ),
        Reproduce(
            (SETUP, "model = AutoModelForSequenceClassification.from_pretrained(folder)"),
            title=r"holds TensorFlow weights only \(tf_model.h5, .* kB\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try(CONVERT),),
            needs=("torch", "transformers", "h5py"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[WeightsFolderProbe.name]
        where = hit["folder"] or hit["repo"]
        said = "file for TensorFlow weights" in hit.raised.message
        if not seen:
            return self._told(failure, path_told(where), "", Certainty.LIKELY) if said else None
        files = weight_files(seen, "tensorflow")
        if not files or weight_files(seen, "pytorch"):
            return None
        return self._told(
            failure,
            path_told(seen["path"]),
            f" ({files_told(files)})",
            Certainty.CONFIRMED,
            seen,
            offer_conversion(self, seen),
        )

    def _told(
        self,
        failure: Failure,
        where: str,
        files: str,
        certainty: Certainty,
        seen: Evidence | None = None,
        fixes: tuple[Fix, ...] = (),
    ) -> Diagnosis:
        return self.found(
            f"{where} holds TensorFlow weights only{files}; {reader_told(failure)}",
            certainty,
            what="A PyTorch class was asked to load it and found neither model.safetensors nor pytorch_model.bin.",
            why="The model was saved from TensorFlow/Keras. Its weights must be converted once; then any version loads them.",
            evidence=seen.seen if seen else (),
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_conversion(fix, scene)
