"""What each of TensorFlow's and Keras's ways of saving is, and which call opens it (each tried with TensorFlow 2.21, tf-keras 2.21)."""

from __future__ import annotations

from collections.abc import Sequence

from tfdiag_ipython.probes.weights_folder import (
    CHECKPOINT_1,
    CHECKPOINT_2,
    KERAS_ARCHIVE,
    KERAS_MODEL,
    KERAS_UNNAMED,
    KERAS_WEIGHTS,
    SAVED_MODEL,
    WeightFile,
)

_BUILD = "In transformers 4 with TensorFlow build the TF… model from its config, call it once, "
OPENED_BY = {
    KERAS_WEIGHTS: (
        "weights from save_weights under another name than tf_model.h5",
        "Copy it as tf_model.h5 beside the model's config.json and run the cell again: tfdiag then offers to convert it.",
    ),
    KERAS_MODEL: (
        "a whole Keras model (model.save), which only Keras's load_model opens",
        "Open it with load_model of the Keras that saved it (custom_objects names transformers' layers), then save_pretrained of "
        "the transformers model inside.",
    ),
    KERAS_ARCHIVE: (
        "a whole Keras model (.keras), which only Keras's load_model opens",
        "Open it with load_model of the Keras that saved it, in transformers 4 with TensorFlow, then save_pretrained.",
    ),
    KERAS_UNNAMED: (
        "Keras weights without names (.weights.h5), which only the program that built the model can load",
        f"{_BUILD}load_weights with this file, then save_pretrained.",
    ),
    SAVED_MODEL: (
        "a TensorFlow SavedModel (a frozen program), which no version of transformers loads",
        f"{_BUILD}and `model.set_weights(tf.keras.models.load_model(folder).get_weights())`, then save_pretrained.",
    ),
    CHECKPOINT_1: (
        "a TensorFlow 1 checkpoint, which transformers 5 cannot read and 4 only converts",
        "Convert it once: transformers 4 with TensorFlow, the convert_…_original_tf_checkpoint_to_pytorch script of the model.",
    ),
    CHECKPOINT_2: (
        "a TensorFlow 2 checkpoint (save_weights without .h5), which only the TF… class can load",
        f"{_BUILD}load_weights with the name before `.index`, then save_pretrained.",
    ),
}
"""Kind → what it is and who opens it; what to do."""


def main_file(files: Sequence[WeightFile]) -> WeightFile:
    """The file that says most about how the model was saved: parts of a checkpoint last."""
    return next((file for file in files if file.kind in OPENED_BY), files[0])
