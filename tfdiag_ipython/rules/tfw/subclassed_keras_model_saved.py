from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule

_TRANSFORMERS = r"transformers[/\\.]|\bTF[A-Z]\w+(?:Model|Layer|For\w+)\b|modeling_tf_"
_MODEL_FILE = re.compile(r"keras[/\\](?:src[/\\])?(?:engine|models)[/\\](?:training|network|model|functional)\.py$")


class SubclassedKerasModelSaved(Rule):
    """`model.save("x.h5")` of a model that is, or contains, a class of transformers.

    *What it means*
    HDF5 holds a whole Keras model as the list of its layers and their `get_config`. transformers' models are subclasses of `Model` whose
    structure is Python code: there is no such list.

    *Why it happens*
    `model.save(…)` with a name in `.h5` or `.keras`, `ModelCheckpoint` without `save_weights_only=True`, or `model.to_json()`.

    *How tfdiag confirms it*
    `NotImplementedError` from `get_config` of Keras's `Model` itself, or Keras's sentence about HDF5, together with a class or file of
    transformers. Without transformers in it, it is silent: a subclassed model of the person's own is Keras's business.

    *Fixes and their safety*
    None is carried out: where to save is yours to say. `model.save_pretrained(folder)` or `model.save_weights("tf_model.h5")` work.

    *Example*
    `TFBertForSequenceClassification….save("model.h5")`

    *References*
    Keras: "Serialization and saving"; transformers 4: `TFPreTrainedModel.save_pretrained`.
    """

    code = "TFW006"
    name = "subclassed-keras-model-saved"
    raised = ("builtins.NotImplementedError",)
    message = re.compile(
        r"^\s*$|(?P<hdf>Saving the model to HDF5 format requires the model to be a Functional)"
        r"|(?P<layer>[Ll]ayers? .{0,80}(?:must override|does not implement|was created by passing).{0,200}get_config)",
        re.DOTALL,
    )
    links = (Link("Keras: saving", "https://keras.io/guides/serialization_and_saving/"),)
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "t.py", line 9, in <module>\n    model.save("x.h5")\n'
            '  File "/x/site-packages/transformers/modeling_tf_utils.py", line 1101, in save\n    super().save(*args)\n'
            '  File "/x/site-packages/tensorflow/python/keras/engine/training.py", line 2231, in get_config\n'
            "    raise NotImplementedError\nNotImplementedError",
            certainty=Certainty.LIKELY,
            title="HDF5",
        ),
        Match(
            text='  File "/x/site-packages/transformers/modeling_tf_utils.py", line 9, in save\n    super().save()\n'
            "NotImplementedError: Saving the model to HDF5 format requires the model to be a Functional model or a Sequential model. "
            "It does not work for subclassed models.",
            certainty=Certainty.LIKELY,
        ),
        NoMatch(text="NotImplementedError: Layers with arguments in `__init__` must override `get_config`."),
        NoMatch(text="NotImplementedError"),
        NoMatch(
            text='  File "/x/site-packages/tensorflow/python/keras/engine/training.py", line 2231, in get_config\n'
            "    raise NotImplementedError\nNotImplementedError"
        ),
        NoMatch(
            text="NotImplementedError: Saving the model to HDF5 format requires the model to be a Functional model or a Sequential model."
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        frames = hit.raised.frames
        ours = failure.says(_TRANSFORMERS) or any(
            re.search(_TRANSFORMERS, frame.file + frame.source) for frame in frames
        )
        silent = not hit.raised.message.strip()
        in_model = bool(frames) and frames[-1].function == "get_config" and _MODEL_FILE.search(frames[-1].file)
        if not ours or (silent and not in_model):
            return None  # a subclassed model of the person's own is Keras's business
        return self.found(
            "A whole Keras model cannot be saved to HDF5 when it is (or contains) a subclassed model such as transformers' TF classes",
            Certainty.LIKELY,
            what="Keras asked the model for its get_config, and a subclassed model has none.",
            why="Save the weights: `model.save_pretrained(folder)` for a transformers model, `model.save_weights(…)` for one built around "
            "it, `save_weights_only=True` for ModelCheckpoint.",
        )
