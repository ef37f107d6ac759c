"""Makes tests/data/tf: tiny random models saved by TensorFlow itself, with TensorFlow's own outputs for one batch.

Run it in an environment of its own: ``pip install tensorflow-cpu tf-keras "transformers<5" h5py`` (made with TensorFlow 2.21 and
transformers 4.57.6), then ``python tools/make_tf_fixture.py tests/data/tf``. With ``--all`` every class of the seven architectures
is made, for a check of all of them by ``TFDIAG_TF_MODELS=FOLDER pytest tests/fixes/test_convert.py``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

COMMON = {"vocab_size": 24, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}
COMMON |= {"num_hidden_layers": 1, "max_position_embeddings": 16, "num_labels": 3}
HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
CHOICE = "ForMultipleChoice"
ARCHITECTURES = {
    "bert": (
        "Bert",
        COMMON,
        ("Model", *HEADS, CHOICE, "LMHeadModel", "ForPreTraining", "ForNextSentencePrediction"),
    ),
    "distilbert": (
        "DistilBert",
        {"vocab_size": 24, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12}
        | {"max_position_embeddings": 16, "num_labels": 3},
        ("Model", *HEADS, CHOICE),
    ),
    "roberta": ("Roberta", COMMON, ("Model", *HEADS, CHOICE, "ForCausalLM")),
    "electra": ("Electra", COMMON | {"embedding_size": 6}, ("Model", *HEADS, CHOICE, "ForPreTraining")),
    "albert": ("Albert", COMMON | {"embedding_size": 6}, ("Model", *HEADS, CHOICE, "ForPreTraining")),
    "gpt2": (
        "GPT2",
        {"vocab_size": 24, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16, "num_labels": 3},
        ("Model", "LMHeadModel", "DoubleHeadsModel", "ForSequenceClassification"),
    ),
    "t5": (
        "T5",
        {"vocab_size": 24, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}
        | {"decoder_start_token_id": 0, "relative_attention_num_buckets": 8},
        ("Model", "ForConditionalGeneration", "EncoderModel"),
    ),
}
VARIANTS = {  # settings that change which weights there are
    "t5-deeper": (
        "T5",
        ARCHITECTURES["t5"][1] | {"num_layers": 2, "num_decoder_layers": 3},
        "ForConditionalGeneration",
    ),
    "t5-gated": ("T5", ARCHITECTURES["t5"][1] | {"feed_forward_proj": "gated-gelu"}, "ForConditionalGeneration"),
    "t5-untied": ("T5", ARCHITECTURES["t5"][1] | {"tie_word_embeddings": False}, "ForConditionalGeneration"),
    "bert-twelve-layers": ("Bert", COMMON | {"num_hidden_layers": 12}, "ForMaskedLM"),
    "albert-groups": (
        "Albert",
        COMMON | {"embedding_size": 6, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
        "ForMaskedLM",
    ),
    "electra-projectionless": ("Electra", COMMON | {"embedding_size": 8}, "ForMaskedLM"),
}
STORED = (  # one per architecture, the heads varied
    "bert-ForSequenceClassification",
    "distilbert-Model",
    "roberta-ForMaskedLM",
    "electra-ForTokenClassification",
    "albert-ForQuestionAnswering",
    "gpt2-LMHeadModel",
    "t5-ForConditionalGeneration",
)
BY_KERAS = ("distilbert-Model", "bert-Model", "gpt2-LMHeadModel", "t5-Model")
"""Written by Keras's own ``save_weights``, as people did before ``save_pretrained``."""
OUTPUTS = ("last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits", "mc_logits")
OUTPUTS += ("prediction_logits", "seq_relationship_logits", "sop_logits")
IDS = [[2, 5, 7, 9, 3], [2, 11, 4, 3, 6]]


def models() -> dict[str, tuple[str, dict[str, object]]]:
    """Folder name → TensorFlow class and the sizes of its configuration."""
    found = {
        f"{name}-{head}": (f"TF{stem}{head}", sizes)
        for name, (stem, sizes, heads) in ARCHITECTURES.items()
        for head in heads
    }
    return found | {name: (f"TF{stem}{head}", sizes) for name, (stem, sizes, head) in VARIANTS.items()}


def save(name: str, kind: str, sizes: dict[str, object], folder: Path) -> None:
    """One model, its ``config.json``, and ``expected.json``: the inputs, the class, and TensorFlow's outputs by their names."""
    import tensorflow as tf
    import transformers

    tf.keras.utils.set_random_seed(0)
    model_class = getattr(transformers, kind)
    # TensorFlow's RoBERTa counts positions from padding index 1 whatever the configuration says
    padding = {"pad_token_id": 1, "bos_token_id": 0} if "Roberta" in kind else {"pad_token_id": 0, "bos_token_id": 1}
    causal = {"is_decoder": True} if kind in {"TFBertLMHeadModel", "TFRobertaForCausalLM"} else {}
    scale = {"initializer_factor": 1.0} if "T5" in kind else {"initializer_range": 0.5}
    labels = {"num_labels": 2} if "Answering" in kind else {}
    settings = sizes | labels | padding | causal | scale | {"eos_token_id": 2}
    model = model_class(model_class.config_class(**settings))
    inputs = {"input_ids": [[row, row[::-1]] for row in IDS] if "Choice" in kind or "Double" in kind else IDS}
    if kind in {"TFT5Model", "TFT5ForConditionalGeneration"}:
        inputs["decoder_input_ids"] = [[0, 4, 8], [0, 9, 1]]
    model({key: tf.constant(value) for key, value in inputs.items()})
    for number, weight in enumerate(model.weights):  # biases and norms start as 0 and 1: a mix-up would not show
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.1, seed=number))
    output = model({key: tf.constant(value) for key, value in inputs.items()})
    folder.mkdir(parents=True, exist_ok=True)
    if name in BY_KERAS:
        model.save_weights(str(folder / "tf_model.h5"))
        model.config.architectures = [kind.removeprefix("TF")]
        model.config.save_pretrained(folder)
    else:
        model.save_pretrained(str(folder))
    expected = {"class": kind.removeprefix("TF"), "inputs": inputs, "outputs": {}}
    for key in OUTPUTS:
        if output.get(key) is not None:
            rows = tf.reshape(output[key], (len(IDS), -1)).numpy()
            expected["outputs"][key] = [[float(f"{number:.7g}") for number in row] for row in rows]
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def main(folder: str, *options: str) -> None:
    for name, (kind, sizes) in models().items():
        if "--all" in options or name in STORED:
            save(name, kind, sizes, Path(folder, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
