from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP


class KerasThreeMixedIn(Rule):
    """An object of Keras 3 meets transformers' TensorFlow classes, which are built on Keras 2 (tf_keras).

    *What it means*
    From TensorFlow 2.16 on `tf.keras` is Keras 3. transformers 4 runs its TensorFlow models on the separate package tf-keras. Optimizers,
    losses, layers and symbolic tensors of one Keras mean nothing to the other.

    *Why it happens*
    The program takes `Adam`, `Input` or `Sequential` from `keras` or `tf.keras` and gives it to (or puts into it) a `TF…` model;
    or `TF_USE_LEGACY_KERAS` was set after TensorFlow had been imported.

    *How tfdiag confirms it*
    From the text only: the identifier's class lives in `keras.src` and the receiver is tf_keras or a transformers class.

    *Fixes and their safety*
    None is carried out: it takes a restart. Set `TF_USE_LEGACY_KERAS=1` before the first import of TensorFlow, with tf-keras installed;
    or import the optimizer from `tf_keras`.

    *Example*
    `ValueError: Could not interpret optimizer identifier: <keras.src.optimizers.adam.Adam object at 0x…>`

    *References*
    TensorFlow: release notes of 2.16; transformers 4.57: `modeling_tf_utils.py`, the check of Keras's version.
    """

    code = "TFW005"
    name = "keras-three-mixed-in"
    message = re.compile(
        r"Could not interpret (?P<role>\w+) identifier:\W{0,4}<(?P<package>keras)\.src\.(?P<object>[\w.]+)"
        r"|(?P<installed>installed version of Keras is Keras 3, but this is not yet supported in Transformers)"
        r"|(?P<symbolic>A KerasTensor (?:cannot be used as input to a TensorFlow function|is symbolic))"
        r"|Only instances of `?keras\.Layer`? can be added to a \w+ model\. Received: <(?P<added>(?:transformers|tf_keras)[\w.]*)"
        r"|Data of type <class '(?P<rejected>keras\.src[\w.]*)'> is not allowed only"
        r"|(?P<variable>'Variable' object has no attribute '_distribute_strategy')"
        r"|Unsupported type in call.{0,200}(?P<unsupported>keras_tensor\.KerasTensor)"
    )
    links = (
        Link("Keras 3 and TensorFlow", "https://keras.io/getting_started/#tensorflow--keras-2-backwards-compatibility"),
    )
    CASES = (
        Match(
            text="ValueError: Could not interpret optimizer identifier: <keras.src.optimizers.adam.Adam object at 0x7f419cfc5010>",
            certainty=Certainty.LIKELY,
            title="Adam.*Keras 3",
        ),
        Match(
            text="ValueError: Your currently installed version of Keras is Keras 3, but this is not yet supported in Transformers. "
            "Please install the backwards-compatible tf-keras package with `pip install tf-keras`.",
            title="tf-keras",
        ),
        Match(
            text="ValueError: Only instances of `keras.Layer` can be added to a Sequential model. Received: "
            "<transformers.models.bert.modeling_tf_bert.TFBertMainLayer object at 0x7>",
        ),
        Match(
            text="ValueError: Exception encountered when calling layer 'tf_bert_model' (type TFBertModel).\n\n"
            "A KerasTensor cannot be used as input to a TensorFlow function.",
            title="Keras 3",
        ),
        Match(
            # tf-keras 2.21, a metric of Keras 3 given to compile
            text='  File "/x/site-packages/transformers/modeling_tf_utils.py", line 1547, in compile\n    super().compile(\n'
            '  File "/x/site-packages/tf_keras/src/utils/traceback_utils.py", line 70, in error_handler\n    raise e\n'
            "AttributeError: 'Variable' object has no attribute '_distribute_strategy'",
            certainty=Certainty.LIKELY,
            title="a metric or layer of Keras 3",
        ),
        Match(
            # tf-keras 2.21, Keras 3.15: keras.Input given to TFBertModel
            text="ValueError: Exception encountered when calling layer 'tf_bert_model_4' (type TFBertModel).\n\nData of type <class "
            "'keras.src.backend.common.keras_tensor.KerasTensor'> is not allowed only (<class 'tensorflow.python.framework.tensor.Tensor'>, "
            "<class 'bool'>, <class 'int'>, <class 'transformers.utils.generic.ModelOutput'>, <class 'numpy.ndarray'>) is accepted for "
            "input_ids.",
            title="symbolic tensor of Keras 3",
        ),
        Reproduce(
            (TENSORFLOW_SETUP + "import keras", "model.compile(optimizer=keras.optimizers.Adam(1e-3))"),
            certainty=Certainty.LIKELY,
            title="`Adam` comes from Keras 3",
            needs=TENSORFLOW,
            isolated=True,
        ),
        Reproduce(
            (
                TENSORFLOW_SETUP + "import keras",
                'model.compile(optimizer="adam", metrics=[keras.metrics.SparseCategoricalAccuracy()])',
            ),
            certainty=Certainty.LIKELY,
            title="a metric or layer of Keras 3",
            needs=TENSORFLOW,
            isolated=True,
        ),
        Reproduce(
            (TENSORFLOW_SETUP + "import keras", 'model(keras.Input((5,), dtype="int32"))'),
            certainty=Certainty.LIKELY,
            title="symbolic tensor of Keras 3",
            needs=TENSORFLOW,
            isolated=True,
        ),
        Reproduce(
            (TENSORFLOW_SETUP + "import keras", "keras.Sequential([model.bert])"),
            certainty=Certainty.LIKELY,
            title="`TFBertMainLayer` is a layer of Keras 2",
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(text="AttributeError: 'Variable' object has no attribute '_distribute_strategy'"),
        NoMatch(text="ValueError: A KerasTensor cannot be used as input to a TensorFlow function."),
        NoMatch(
            text="ValueError: ('Could not interpret optimizer identifier:', <runai.ga.keras.optimizers.Adam object at 0x7f>)"
        ),
        NoMatch(text="ValueError: Could not interpret metric identifier: f1"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["installed"]:
            title = "transformers' TensorFlow classes need Keras 2, here is Keras 3: install tf-keras and restart"
        elif hit["package"]:
            kind = hit["object"].rpartition(".")[2]
            title = f"`{kind}` comes from Keras 3, but the model is built on Keras 2 (tf_keras): the {hit['role']} is not known to it"
        elif hit["added"]:
            kind = hit["added"].rpartition(".")[2]
            title = f"`{kind}` is a layer of Keras 2 (tf_keras), and the model around it is built with Keras 3"
        elif hit["variable"]:
            if not any(re.search(r"modeling_tf_|[/\\]tf_keras[/\\]", frame.file) for frame in hit.raised.frames):
                return None
            title = "`compile` was given a metric or layer of Keras 3, but the model is built on Keras 2 (tf_keras)"
        elif failure.says(
            r"\b(?:transformers|tf_\w*(?:bert|roberta|electra|gpt2|xlnet|t5|deberta)\w*|TF[A-Z]\w+(?:Model|Layer))\b"
        ):
            title = (
                "A symbolic tensor of Keras 3 was given to a transformers model, which is built on Keras 2 (tf_keras)"
            )
        else:
            return None
        return self.found(
            title,
            Certainty.LIKELY,
            what="From TensorFlow 2.16 on tf.keras is Keras 3; transformers 4 uses the package tf-keras. Their objects do not mix.",
            why="Restart, set `TF_USE_LEGACY_KERAS=1` in the environment before TensorFlow is first imported (tf-keras installed), or take "
            "optimizers and layers from `tf_keras`. `tf.keras` is Keras 3 where it is used before transformers' TF classes are imported.",
        )
