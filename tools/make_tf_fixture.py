"""Makes tests/data/tf: tiny random models saved by TensorFlow itself, with TensorFlow's own outputs for one batch.

Run it in an environment of its own: ``pip install tensorflow-cpu tf-keras "transformers<5" h5py`` (made with TensorFlow 2.21 and
transformers 4.57.6), then ``python tools/make_tf_fixture.py tests/data/tf``. ``--all`` adds the architectures that are not stored.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

SMALL = {"vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
POSITIONS = {"max_position_embeddings": 16}
STORED = {
    "bert": ("TFBertModel", SMALL | POSITIONS),
    "bert-classifier": ("TFBertForSequenceClassification", SMALL | POSITIONS | {"num_labels": 3}),
}
MORE = {
    "distilbert-classifier": (
        "TFDistilBertForSequenceClassification",
        {"vocab_size": 24, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12, "num_labels": 3} | POSITIONS,
    ),
    "roberta-masked-lm": ("TFRobertaForMaskedLM", SMALL | POSITIONS),
    "gpt2-lm": ("TFGPT2LMHeadModel", {"vocab_size": 24, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}),
    "bert-pretraining": ("TFBertForPreTraining", SMALL | POSITIONS),
    "bert-masked-lm": ("TFBertForMaskedLM", SMALL | POSITIONS),
    "bert-tokens": ("TFBertForTokenClassification", SMALL | POSITIONS),
    "bert-answers": ("TFBertForQuestionAnswering", SMALL | POSITIONS),
    "bert-choice": ("TFBertForMultipleChoice", SMALL | POSITIONS),
    "bert-next": ("TFBertForNextSentencePrediction", SMALL | POSITIONS),
    "distilbert": (
        "TFDistilBertModel",
        {"vocab_size": 24, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12} | POSITIONS,
    ),
    "distilbert-masked-lm": (
        "TFDistilBertForMaskedLM",
        {"vocab_size": 24, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12} | POSITIONS,
    ),
    "roberta": ("TFRobertaModel", SMALL | POSITIONS),
    "roberta-classifier": ("TFRobertaForSequenceClassification", SMALL | POSITIONS | {"num_labels": 3}),
    "gpt2": ("TFGPT2Model", {"vocab_size": 24, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}),
    "electra": ("TFElectraForSequenceClassification", SMALL | POSITIONS | {"embedding_size": 8, "num_labels": 3}),
    "albert": ("TFAlbertModel", SMALL | POSITIONS | {"embedding_size": 8}),
}
IDS = [[2, 5, 7, 9, 3], [2, 11, 4, 3, 6]]


def main(folder: str, *options: str) -> None:
    import tensorflow as tf
    import transformers

    tf.keras.utils.set_random_seed(0)
    for name, (kind, sizes) in (STORED | MORE if "--all" in options else STORED).items():
        model_class = getattr(transformers, kind)
        # TensorFlow's RoBERTa counts positions from padding index 1 whatever the configuration says
        padding = (
            {"pad_token_id": 1, "bos_token_id": 0} if "Roberta" in kind else {"pad_token_id": 0, "bos_token_id": 1}
        )
        settings = sizes | padding | {"eos_token_id": 2}
        model = model_class(model_class.config_class(**settings, initializer_range=0.5))
        ids = tf.constant([[row, row] for row in IDS] if "Choice" in kind else IDS)
        output = model(ids)
        if name == "bert":  # what Keras's own method writes, as people did before save_pretrained
            Path(folder, name).mkdir(parents=True, exist_ok=True)
            model.save_weights(str(Path(folder, name, "tf_model.h5")))
            model.config.architectures = [kind.removeprefix("TF")]
            model.config.save_pretrained(Path(folder, name))
        else:
            model.save_pretrained(str(Path(folder, name)))
        expected = {"input_ids": ids.numpy().tolist(), "class": kind.removeprefix("TF")}
        expected["output"] = [[float(f"{x:.8g}") for x in row] for row in tf.reshape(output[0], (len(IDS), -1)).numpy()]
        Path(folder, name, "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
