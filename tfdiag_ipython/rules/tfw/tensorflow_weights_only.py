from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.convert import SOURCE
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.weights_folder import CHECKPOINT_2, SAVED_MODEL, WeightFile, WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tfw._convert import (
    CONVERT,
    SHARD,
    files_told,
    offer_conversion,
    path_told,
    plan_conversion,
    reader_told,
)
from tfdiag_ipython.rules.tfw._formats import OPENED_BY, main_file

SETUP = """
import tempfile
from transformers import AutoModelForSequenceClassification
from tfdiag_ipython.rules.tfw._h5_example import save_tensorflow_bert
folder = tempfile.mkdtemp()
save_tensorflow_bert(folder)
"""
LOAD = "model = AutoModelForSequenceClassification.from_pretrained(folder)"
CUT = 'file = folder + "/tf_model.h5"\nstart = open(file, "rb").read()[:20_000]\nopen(file, "wb").write(start)\n'
POINTER = """
text = "version https://git-lfs.github.com/spec/v1\\noid sha256:" + "4d" * 32 + "\\nsize 437972328\\n"
open(folder + "/tf_model.h5", "w").write(text)
"""
RENAMED = 'import os\nos.rename(folder + "/tf_model.h5", folder + "/my_model.h5")\n'
WHOLE_MODEL = """
import h5py, os
os.remove(folder + "/tf_model.h5")
with h5py.File(folder + "/model.h5", "w") as file:
    file.attrs["model_config"] = "{}"
    file.create_group("model_weights").attrs["layer_names"] = [b"bert"]
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
    raised = ("builtins.OSError", "builtins.ValueError")
    message = re.compile(
        r"Error no file named (?P<wanted>.{1,300}?),? found in directory (?P<folder>\S.{0,600}?)(?: or `from_(?:tf|pt)`|\.?\s{0,20}\Z| but there is)"
        r"|(?<!\S)(?P<repo>\S+) does not appear to have a file named .{1,200}? but there is a file for TensorFlow"
        r"|Unrecognized model in (?P<untyped>\S.{0,300}?)\. Should have a `model_type` key",
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
        Match(
            text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./out.",
            evidence={"weights-folder": SEEN | {"files": (FILE | {"name": "out/", "kind": SAVED_MODEL},)}},
            certainty=Certainty.CONFIRMED,
            title=r"has no PyTorch weights but out/: a TensorFlow SavedModel .* no version of transformers loads",
        ),
        Match(
            text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./out.",
            evidence={"weights-folder": SEEN | {"files": (FILE | {"name": "w.index", "kind": CHECKPOINT_2},)}},
            title="w.index: a TensorFlow 2 checkpoint",
        ),
        *(
            Reproduce(
                (SETUP + more + "import os\nos.remove(folder + '/config.json')", LOAD),
                title=title,
                certainty=Certainty.CONFIRMED,
                needs=("torch", "transformers", "h5py"),
            )
            for more, title in (
                ("", r"holds TensorFlow weights only \(tf_model.h5, .* kB\)"),
                (WHOLE_MODEL, r"no PyTorch weights but model.h5: a whole Keras model"),
                (
                    "import os, pathlib\nos.remove(folder + '/tf_model.h5')\npathlib.Path(folder, 'saved_model.pb').write_bytes(b'x')\n"
                    "pathlib.Path(folder, 'variables').mkdir()\n",
                    "no PyTorch weights but .*: a TensorFlow SavedModel",
                ),
            )
        ),
        Reproduce(
            (SETUP + CUT, LOAD),
            title=r"has no PyTorch weights but tf_model.h5, and that is damaged: cut short: 20 kB of .* kB",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers", "h5py"),
        ),
        Reproduce(
            (SETUP + POINTER, LOAD),
            title="tf_model.h5, and that is a Git LFS pointer .* in place of the real 438 MB",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers", "h5py"),
        ),
        Reproduce(
            (SETUP + RENAMED, LOAD),
            title="no PyTorch weights but my_model.h5: weights from save_weights under another name than tf_model.h5",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers", "h5py"),
        ),
        Reproduce(
            (SETUP + WHOLE_MODEL, LOAD),
            title=r"but model.h5: a whole Keras model \(model.save\), which only Keras's load_model opens",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers", "h5py"),
        ),
        Reproduce(
            (SETUP, LOAD),
            title=r"holds TensorFlow weights only \(tf_model.h5, .* kB\)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try(CONVERT),),
            needs=("torch", "transformers", "h5py"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[WeightsFolderProbe.name]
        where = hit["folder"] or hit["repo"] or hit["untyped"]
        if hit["untyped"] and (not seen or seen["config"] or not seen["folder"]):
            return None  # a configuration without a model type: CFG002
        said = "file for TensorFlow weights" in hit.raised.message
        if not seen:
            return self._told(failure, path_told(where), "", Certainty.LIKELY) if said else None
        files = weight_files(seen, "tensorflow")
        if weight_files(seen, "pytorch"):
            return None
        given = next((file for file in weight_files(seen) if file.name == SOURCE), None)
        if given and given.problem:
            return self._damaged(path_told(seen["path"]), given, seen)
        if not files:
            return None
        if given is None and not any(SHARD.fullmatch(file.name) for file in files):
            return self._other_format(path_told(seen["path"]), main_file(files), seen)
        return self._told(
            failure,
            path_told(seen["path"]),
            f" ({files_told(files)})",
            Certainty.CONFIRMED,
            seen,
            offer_conversion(self, seen),
        )

    def _damaged(self, where: str, file: WeightFile, seen: Evidence) -> Diagnosis:
        what = f"damaged: {file.problem}" if file.framework else f"{file.named} ({file.problem})"
        return self.found(
            f"{where} has no PyTorch weights but {file.name}, and that is {what}",
            Certainty.CONFIRMED,
            what="from_tf=True or a converter cannot help: the bytes of the weights are not there.",
            why="Get the file again from where it came from (`git lfs pull` in a clone, `force_download=True` for the Hub), then run this "
            "cell again.",
            evidence=seen.seen,
        )

    def _other_format(self, where: str, file: WeightFile, seen: Evidence) -> Diagnosis:
        kind, remedy = OPENED_BY.get(file.kind, ("a part of a TensorFlow checkpoint", "Its other files are missing."))
        if file.problem:
            remedy = f"The file is not whole ({file.problem}): get it again first. {remedy}"
        return self.found(
            f"{where} has no PyTorch weights but {file.name}: {kind}",
            Certainty.CONFIRMED,
            what="The class that was to load it found neither model.safetensors nor pytorch_model.bin.",
            why=remedy,
            evidence=seen.seen,
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
            what="The class that was to load it found neither model.safetensors nor pytorch_model.bin.",
            why="The model was saved from TensorFlow/Keras. Its weights must be converted once; then any version loads them.",
            evidence=seen.seen if seen else (),
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_conversion(fix, scene)
