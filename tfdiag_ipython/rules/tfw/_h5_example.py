"""Writes a tiny BERT classifier the way TensorFlow's ``save_pretrained`` does, so that Reproduce cells need no TensorFlow.

tests/fixes/test_convert.py compares its layout with a file that TensorFlow wrote.
"""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = "tf_bert_for_sequence_classification"
SIZES = {
    "vocab_size": 24,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "num_labels": 3,
}


def save_tensorflow_bert(folder: str) -> None:
    """``tf_model.h5`` and ``config.json`` of a random ``TFBertForSequenceClassification`` in this folder."""
    import h5py
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(BertConfig(**SIZES))
    model.config.architectures = ["BertForSequenceClassification"]
    model.config.save_pretrained(folder)
    layers: dict[str, list[str]] = {"bert": [], "dropout": [], "classifier": []}
    with h5py.File(Path(folder) / "tf_model.h5", "w") as file:
        for name, tensor in model.state_dict().items():
            layer, path = name.partition(".")[0], keras_path(name)
            array = tensor.numpy().T if path.endswith("/kernel:0") else tensor.numpy()
            file.create_dataset(f"{layer}/{path}", data=array)
            layers[layer].append(path)
        for layer, weights in layers.items():
            file.require_group(layer).attrs["weight_names"] = [path.encode() for path in weights]
        file.require_group("top_level_model_weights").attrs["weight_names"] = []
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.21.0"


def keras_path(name: str) -> str:
    """``bert.encoder.layer.0.output.dense.weight`` → ``…/bert/encoder/layer_._0/output/dense/kernel:0``."""
    parts = name.split(".")
    if parts[-2] == "LayerNorm":
        parts[-1] = {"weight": "gamma", "bias": "beta"}[parts[-1]]
    elif parts[-2] in {"position_embeddings", "token_type_embeddings"}:
        parts[-1] = "embeddings"
    elif parts[-1] == "weight" and parts[-2] != "word_embeddings":
        parts[-1] = "kernel"
    return re.sub(r"/(\d+)/", r"_._\1/", f"{_ROOT}/{'/'.join(parts)}:0")
