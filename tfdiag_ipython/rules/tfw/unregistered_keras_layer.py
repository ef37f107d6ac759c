from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP


class UnregisteredKerasLayer(Rule):
    """A saved Keras model contains a layer of transformers that `load_model` was not told about.

    *What it means*
    A whole Keras model (`model.save`) stores its layers by class name. `TFBertMainLayer` and the like are classes of transformers, which
    Keras does not know by itself.

    *Why it happens*
    The program that loads has not registered the class (`custom_objects`), has not imported transformers, or has a transformers in
    which the class no longer exists (5 has no TensorFlow classes) or belongs to the other Keras (tf_keras against Keras 3).

    *How tfdiag confirms it*
    It cannot: the message names the class, and only transformers names classes so. The finding stays likely.

    *Fixes and their safety*
    None is carried out: the model's definition is yours. Building the model again in code and `load_weights` is the way that works in all
    versions.

    *Example*
    `ValueError: Unknown layer: Custom>TFBertMainLayer`

    *References*
    Keras: "Serialization and saving", custom objects; transformers 4: `modeling_tf_utils.keras_serializable`.
    """

    code = "TFW004"
    name = "unregistered-keras-layer"
    message = re.compile(
        r"(?:Unknown (?P<what>layer|object|model)|Could not locate (?P<kind>class|function|object)):? '?(?:Custom>|\w+>)?(?P<layer>TF[A-Z]\w+)"
    )
    links = (Link("Keras: custom objects", "https://keras.io/guides/serialization_and_saving/#custom-objects"),)
    CASES = (
        Match(
            text="ValueError: Unknown layer: Custom>TFBertMainLayer",
            certainty=Certainty.LIKELY,
            title="TFBertMainLayer",
        ),
        Match(
            text="ValueError: Unknown layer: 'TFDistilBertModel'. Please ensure you are using a `keras.utils.custom_object_scope` "
            "and that this object is included in the scope.",
            title="load_model does not know `TFDistilBertModel`",
        ),
        Match(
            text="TypeError: Could not locate class 'TFRobertaMainLayer'. Make sure custom classes are decorated with "
            "`@keras.saving.register_keras_serializable()`.",
        ),
        Match(
            # tf-keras 2.21: model.save("f.h5") of a functional model around TFBertModel, then load_model
            text="ValueError: Unknown layer: 'TFBertModel'. Please ensure you are using a `keras.utils.custom_object_scope` and that this "
            "object is included in the scope. See https://www.tensorflow.org/guide/keras/save_and_serialize#registering_the_custom_object "
            "for details.",
            title="load_model does not know `TFBertModel`",
        ),
        Reproduce(
            (
                TENSORFLOW_SETUP + "ids = tf.keras.layers.Input((5,), dtype='int32')\n"
                "whole = tf.keras.Model(ids, TFBertModel(config)(ids)[1])\nwhole.save('whole.h5')",
                'tf.keras.models.load_model("whole.h5")',
            ),
            certainty=Certainty.LIKELY,
            title="load_model does not know `TFBertModel`",
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(text="ValueError: Unknown layer: Functional"),
        NoMatch(text="ValueError: Unknown layer: TFOpLambda"),
        NoMatch(text="ValueError: Unknown layer: TokenEmbedding"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        layer = hit["layer"]
        if layer in KERAS_OWN:
            return None
        return self.found(
            f"The saved Keras model contains transformers' `{layer}`, and load_model does not know `{layer}`",
            Certainty.LIKELY,
            what="A model saved whole by Keras names its layers by class; classes of other libraries must be registered on loading.",
            why=f"Pass `custom_objects={{'{layer}': transformers.{layer}}}` to load_model (transformers 4 with the same Keras as when it "
            "was saved; import transformers first: its …MainLayer classes register themselves), or build the model in code and use load_weights, "
            "which also reads the weights out of the whole model's file. Next time: save_pretrained, or save_weights.",
        )


KERAS_OWN = frozenset({"TFOpLambda", "TFSMLayer"})
"""Layers of Keras's own whose names start like those of transformers."""
