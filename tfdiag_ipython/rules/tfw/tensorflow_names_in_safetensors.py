from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.weights_folder import TENSORFLOW_NAMES, WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Rule
from tfdiag_ipython.rules.tfw._convert import path_told

REPORT = """BertForSequenceClassification LOAD REPORT from: ./bert-tf
Key                                              | Status     |
-------------------------------------------------+------------+
embeddings/LayerNorm.weight:0                    | UNEXPECTED |
encoder/layer_._0/attention/self/query/kernel:0  | UNEXPECTED |
bert.embeddings.LayerNorm.weight                 | MISSING    |
bert.encoder.layer.0.attention.self.query.weight | MISSING    |
"""
FILE = {
    "name": "model.safetensors",
    "size": 440_000_000,
    "kind": TENSORFLOW_NAMES,
    "framework": "tensorflow",
    "problem": "",
}


class TensorFlowNamesInSafetensors(Rule):
    """transformers 5 loaded a safetensors file that a TensorFlow class wrote: the model has random weights.

    *What it means*
    `model.safetensors` holds the tensors under TensorFlow's names (`…/kernel:0`) and in its layout. transformers 5 knows none of these
    names: it initializes every weight anew, and says so in its load report only.

    *Why it happens*
    `TFAutoModel….save_pretrained` of transformers 4 wrote safetensors by default. Its metadata say `format: tf`, which 4 obeyed by going
    through TensorFlow, and 5 does not look at.

    *How tfdiag confirms it*
    The library's load report lists names of TensorFlow as unexpected and the model's own as missing; the file's header says `tf`.

    *Fixes and their safety*
    `save-again` is shown: the class that wrote the file is needed to write it as `tf_model.h5`, which tfdiag then converts.

    *Example*
    `AutoModel.from_pretrained("./bert-tf")` under `%%tfdiag`, the folder saved by `TFBertModel`.

    *References*
    transformers 4.57.6: `modeling_tf_utils.py`, `save_pretrained`; `modeling_utils.py`, `load_state_dict`.
    """

    code = "TFW012"
    name = "tensorflow-names-in-safetensors"
    kinds = ("warning", "exception")
    message = re.compile(
        r"LOAD REPORT\S{0,8} from: (?P<where>\S+)(?!\S)(?:(?!LOAD REPORT)[\s\S])*?^[\w./]+:0\s+\|\s{0,20}\S{0,20}UNEXPECTED",
        re.MULTILINE,
    )
    needs = (WeightsFolderProbe,)
    fixes = (Offer("save-again", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            failure=Failure.from_warning(REPORT, category="transformers.utils.loading_report"),
            certainty=Certainty.LIKELY,
            title=r"The model has random weights: `\./bert-tf` has TensorFlow's names, 2 of the model's weights were missing",
            fixes=("save-again",),
        ),
        Match(
            failure=Failure.from_warning(REPORT, category="transformers.utils.loading_report"),
            evidence={"weights-folder": {"path": "./bert-tf", "files": (FILE,)}},
            certainty=Certainty.CONFIRMED,
            title=r"`\./bert-tf` holds a model\.safetensors that TensorFlow wrote",
        ),
        NoMatch(
            failure=Failure.from_warning(
                "BertModel LOAD REPORT from: ./b\nKey | Status |\n----+----+\ncls.predictions.bias | UNEXPECTED |",
                category="transformers.utils.loading_report",
            )
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[WeightsFolderProbe.name]
        missing = len(re.findall(r"\|\s{0,20}\S{0,20}MISSING", hit.raised.message))
        if not missing:
            return None
        wrote = [file for file in weight_files(seen, "tensorflow") if file.kind == TENSORFLOW_NAMES]
        if seen and not wrote:
            return None
        where = path_told(hit["where"])
        holds = f"holds a {wrote[0].name} that TensorFlow wrote" if wrote else "has TensorFlow's names"
        return self.found(
            f"The model has random weights: {where} {holds}, {missing} of the model's weights were missing",
            Certainty.CONFIRMED if wrote else Certainty.LIKELY,
            what="transformers 5 knows no name in that file, and initialized the model's weights anew.",
            why="A TensorFlow class of transformers 4 saved it, under its own names and in its own layout.",
            evidence=seen.seen,
            fixes=(self._save_again(hit["where"]),),
        )

    def _save_again(self, where: str) -> Fix:
        told = (
            "With transformers 4 and TensorFlow: `TFAutoModel….from_pretrained(folder).save_pretrained(folder2, "
            "safe_serialization=False)`, with the class that saved it. Load folder2 here: tfdiag converts its tf_model.h5."
        )
        return self.offer("save-again", "Save it as tf_model.h5, then convert it", told, folder=where)
