"""What the cases of the rules about checkpoints share: the first cells, the facts of a folder, a message."""

from __future__ import annotations

PLACE = """
import json, os, pathlib, shutil, tempfile
from transformers import BertConfig, BertForMaskedLM, BertModel
SMALL = dict(vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
folder = pathlib.Path(tempfile.gettempdir()) / f"000{os.getpid()}"  # transformers 4 looks for model types in the name
base = folder.with_name(f"111{os.getpid()}")
for old in (folder, base):
    shutil.rmtree(old, ignore_errors=True)
folder.mkdir()
"""
UNRECOGNIZED = "ValueError: Unrecognized model in out. Should have a `model_type` key in its config.json."
FOLDER: dict[str, object] = {
    "path": "out",
    "shown": "out",
    "asked": "AutoModel",
    "kind": "empty",
    "files": (),
    "dangling": (),
    "config": False,
    "model_type": "",
    "architectures": (),
    "saved_by": "",
    "known_as": "",
    "concrete": "",
    "made_of": "",
    "auto_map": {},
    "code": {},
    "base": "",
    "gguf": (),
    "onnx": (),
    "nested": (),
}


def files_of(*files: tuple[str, str]) -> str:
    """Lines that write these JSON files (name, Python expression) into the folder."""
    return "".join(f"(folder / {name!r}).write_text(json.dumps({value}))\n" for name, value in files)
