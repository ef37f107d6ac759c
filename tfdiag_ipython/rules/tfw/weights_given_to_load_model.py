from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.keras_model import KerasModelProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._convert import path_told
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP


class WeightsGivenToLoadModel(Rule):
    """`load_model` is given a file with weights only, such as transformers' `tf_model.h5`.

    *What it means*
    `load_model` builds a whole Keras model from the description that `model.save` stores. `save_weights` and `save_pretrained` store
    numbers only.

    *Why it happens*
    The file has the same ending, `.h5`.

    *How tfdiag confirms it*
    Keras says that the file has no model configuration, and the file in Keras's frames is named `tf_model.h5`. With another name, and without
    a class of transformers in the program's text, it is silent: the file is Keras's own business.

    *Fixes and their safety*
    None is carried out: which class the weights belong to stands in `config.json`. `TF….from_pretrained(folder)` loads them.

    *Example*
    `tf.keras.models.load_model("bert/tf_model.h5")`: "No model config found in the file at …"

    *References*
    tf-keras: `saving/legacy/hdf5_format.py`, `load_model_from_hdf5`.
    """

    code = "TFW011"
    name = "weights-given-to-load-model"
    raised = ("builtins.ValueError",)
    message = re.compile(r"(?P<none>No model config found in the file(?: at (?P<file>[^<>\n]{1,300}?)\.?$)?)")
    needs = (KerasModelProbe,)
    links = (Link("Keras: saving", "https://keras.io/guides/serialization_and_saving/"),)
    CASES = (
        Match(
            # tf-keras 2.21
            text="ValueError: No model config found in the file at <tensorflow.python.platform.gfile.GFile object at 0x7fb14f7e3b10>.",
            evidence={
                "keras-model": {"variable": "", "model": "", "ours": False, "inside": (), "file": "p/tf_model.h5"}
            },
            certainty=Certainty.CONFIRMED,
            title=r"`p/tf_model.h5` holds weights only: .*TF….from_pretrained\(\"p\"\)",
        ),
        Match(
            text="ValueError: No model config found in the file at ./bert/tf_model.h5.",
            certainty=Certainty.LIKELY,
            title=r"`\./bert/tf_model.h5` holds weights only",
        ),
        NoMatch(
            text="ValueError: No model config found in the file at <tensorflow.python.platform.gfile.GFile object at 0x7fb14f7e3b10>."
        ),
        NoMatch(text="ValueError: No model config found in the file at ./cnn.h5."),
        Reproduce(
            (
                TENSORFLOW_SETUP + 'model.save_pretrained("p")',
                'tf.keras.models.load_model("p/tf_model.h5")',
            ),
            certainty=Certainty.CONFIRMED,
            title="`p/tf_model.h5` holds weights only",
            needs=TENSORFLOW,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[KerasModelProbe.name]
        file = seen["file"] if seen else hit["file"]
        if os.path.basename(file.replace("\\", "/")) != "tf_model.h5":
            return None
        folder = os.path.dirname(file) or "."
        return self.found(
            f'{path_told(file)} holds weights only: load_model needs a whole model, TF….from_pretrained("{folder}") loads these',
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="save_pretrained and save_weights store numbers; the description of the model is in config.json beside them.",
            why="Use the TF… class that config.json names in transformers 4; for PyTorch, load the folder and let tfdiag convert it.",
            evidence=seen.seen,
        )
