"""Tiny random models, tokenizers and a stand-in for a blocked Hub: made on the spot, so that the notebooks run offline.

Each maker takes the folder to write into and returns it as a string, or returns the objects themselves.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "a",
    "film",
    "plot",
    "cast",
    "was",
    "is",
    "not",
    "good",
    "bad",
    "dull",
    "fine",
    "great",
    "very",
    "quite",
    "and",
    "but",
    "i",
    "liked",
    "hated",
    "it",
    "all",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def start(seed: int = 0) -> None:
    """Quiet and repeatable: no progress bars, no telemetry, one seed."""
    import transformers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.set_seed(seed)


def recorded(scene: str) -> None:
    """Print what tfdiag showed on a GPU, cell by cell (`tools/record_gpu.py` runs the cells there and writes `gpu.json`)."""
    told = json.loads(Path(__file__).with_name("gpu.json").read_text())
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    print(f"Recorded on {told['device']}, {versions}, {told['date']}")
    for cell in told["scenes"][scene]:
        lines = [f">>> {line}" for line in cell["source"].splitlines()]
        print("", *lines, *cell["output"].splitlines(), sep="\n")


def tokenizer() -> Any:
    """A word-level tokenizer with BERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def bert_config(**changes: Any) -> Any:
    """A two-layer BERT configuration for that tokenizer."""
    from transformers import BertConfig

    known = {"vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 32, "initializer_range": 0.5}
    return BertConfig(**{**SIZES, **known, **changes})


def bert(folder: str = "models/bert", **changes: Any) -> str:
    """A BERT sequence classifier with its tokenizer, saved."""
    from transformers import BertForSequenceClassification

    BertForSequenceClassification(bert_config(**changes)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def vit(folder: str = "models/vit") -> str:
    """A ViT image classifier, saved."""
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **SIZES)).save_pretrained(folder)
    return folder


def cached(name: str = "acme/tiny-bert") -> str:
    """A BERT classifier in the Hub's cache, as if it had been downloaded earlier; returns its repository name."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    shutil.rmtree(repository, ignore_errors=True)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    bert(str(repository / "snapshots" / commit))
    return name


def blocked_hub(status: int = 401, otherwise: Mapping[str, tuple[int, bytes]] | None = None) -> str:
    """A gateway on this machine that answers every request to the Hub with this status; returns its address.

    ``otherwise`` gives a status and a page for the repositories of some owners. Call it before transformers is imported, and put its address into ``HF_ENDPOINT``.
    """

    class Gateway(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            owner = self.path.removeprefix("/api/models").split("/")[1]
            code, page = (otherwise or {}).get(owner, (status, b""))
            self.send_response(code)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, *_: Any) -> None:
            """Say nothing: the notebook's output is the user's."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def tensorflow_bert(folder: str = "models/bert-tensorflow") -> str:
    """A BERT classifier as TensorFlow itself saved it (`tools/make_tf_fixture.py`): `config.json` and `tf_model.h5`."""
    source = Path(__file__).resolve().parent.parent / "tests" / "data" / "tf" / "bert-ForSequenceClassification"
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    for name in ("config.json", "tf_model.h5"):
        shutil.copy(source / name, folder)
    return folder


def cloned_without_lfs(folder: str = "models/bert-cloned") -> str:
    """The same folder as `git clone` leaves it where git-lfs is not installed: a text of three lines stands for the weights."""
    weights = Path(tensorflow_bert(folder), "tf_model.h5")
    weights.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 437972328\n")
    return folder


def whole_keras_model(folder: str = "models/bert-keras") -> str:
    """A folder in which `model.save` put a whole Keras model: the same weights, with Keras's description of its layers."""
    import h5py

    weights = Path(tensorflow_bert(folder), "tf_model.h5")
    with h5py.File(weights) as source, h5py.File(Path(folder, "model.h5"), "w") as target:
        target.attrs["model_config"] = '{"class_name": "Functional"}'
        source.copy(source["/"], target, "model_weights")
    weights.unlink()
    return folder
