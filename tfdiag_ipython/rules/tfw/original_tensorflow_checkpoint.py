from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP

_LOADER = re.compile(r"load_tf_weights_in_\w+|convert_tf_checkpoint_to_pytorch")


CHECKPOINT = """
from transformers import BertModel
from transformers.models.bert.modeling_bert import load_tf_weights_in_bert
os.makedirs("v1")
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    tf.compat.v1.get_variable("output_bias", initializer=tf.zeros([2]))
    session.run(tf.compat.v1.global_variables_initializer())
    tf.compat.v1.train.Saver().save(session, "v1/model.ckpt")
"""


class OriginalTensorFlowCheckpoint(Rule):
    """A TensorFlow 1 checkpoint has variables for which the PyTorch class has no place.

    *What it means*
    transformers walks the PyTorch model along each variable's name (`output_bias` → `bias`); it came to a module that has no such
    attribute.

    *Why it happens*
    The checkpoint was fine-tuned with another head than the class that is loading it, or a checkpoint of Google's code is loaded with a class
    for a task (`BertForSequenceClassification`) in place of `BertForPreTraining`.

    *How tfdiag confirms it*
    The failing frames are transformers' TensorFlow 1 loader; from a last line alone the finding is only possible.

    *Fixes and their safety*
    None is carried out: convert once with the class that matches the checkpoint, then load the result with any class.

    *Example*
    `AttributeError: 'BertForPreTraining' object has no attribute 'bias'`

    *References*
    transformers 4: `load_tf_weights_in_bert`.
    """

    code = "TFW008"
    name = "original-tensorflow-checkpoint"
    raised = ("builtins.AttributeError", "builtins.NotImplementedError")
    message = re.compile(
        r"'(?P<model>\w+)' object has no attribute '(?P<attribute>bias|weight|kernel|gamma|beta|\w*global_step\w*)'"
        r"|(?P<topology>Weights may only be loaded based on topology into Models when loading TensorFlow-formatted)"
    )
    CASES = (
        Match(
            text="AttributeError: 'BertForSequenceClassification' object has no attribute 'bias'",
            certainty=Certainty.POSSIBLE,
            title="BertForSequenceClassification",
        ),
        Match(
            text='  File "/x/transformers/modeling_bert.py", line 99, in load_tf_weights_in_bert\n    pointer = getattr(pointer, "bias")\n'
            "AttributeError: 'BertForPreTraining' object has no attribute 'bias'",
            certainty=Certainty.LIKELY,
        ),
        Match(
            text='  File "/x/transformers/modeling_tf_utils.py", line 317, in from_pretrained\n    model.load_weights(file, by_name=True)\n'
            "NotImplementedError: Weights may only be loaded based on topology into Models when loading TensorFlow-formatted weights "
            "(got by_name=True to load_weights).",
            certainty=Certainty.LIKELY,
            title="TF… classes read tf_model.h5 only",
        ),
        NoMatch(
            text="NotImplementedError: Weights may only be loaded based on topology into Models when loading TensorFlow-formatted"
        ),
        Reproduce(
            (
                TENSORFLOW_SETUP + CHECKPOINT,
                'load_tf_weights_in_bert(BertModel(config), config, "v1/model.ckpt")',
            ),
            certainty=Certainty.LIKELY,
            title="has a variable",
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(text="AttributeError: 'Sequential' object has no attribute 'weight'"),
        NoMatch(text="AttributeError: 'LinearRegression' object has no attribute 'bias'"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        frames = hit.raised.frames
        if hit["topology"]:
            if not any("modeling_tf_utils" in frame.file for frame in frames):
                return None
            return self.found(
                "The file is a TensorFlow checkpoint (.ckpt), and transformers' TF… classes read tf_model.h5 only",
                Certainty.LIKELY,
                what="TF… classes load weights by name, which Keras does for HDF5 files only.",
                why="Convert it once: load it into the PyTorch class with from_tf=True in transformers 4, save_pretrained, then use that.",
            )
        loading = any(_LOADER.search(frame.function) for frame in frames)
        whole = re.fullmatch(
            r"(?:Al|Distil|Ro)?[A-Z]\w{0,60}For(?:PreTraining|MaskedLM|[A-Z]\w{1,60}(?:Classification|Answering|Choice))",
            hit["model"],
        )
        if not loading and (frames or not whole):
            return None
        return self.found(
            f"The TensorFlow 1 checkpoint has a variable (`{hit['attribute']}`) for which {hit['model']} has no place",
            Certainty.LIKELY if loading else Certainty.POSSIBLE,
            what="transformers follows each variable's name through the PyTorch model, and the model has no such part.",
            why="Google's checkpoints have the pre-training head, fine-tuned ones their own (output_bias): convert once with the class that "
            "matches the checkpoint, then load the converted folder with any class.",
        )
