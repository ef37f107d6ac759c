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
    "gguf_problem": "",
    "onnx": (),
    "nested": (),
}


def files_of(*files: tuple[str, str]) -> str:
    """Lines that write these JSON files (name, Python expression) into the folder."""
    return "".join(f"(folder / {name!r}).write_text(json.dumps({value}))\n" for name, value in files)


GGUF = r"""
import numpy, struct
def text(value):
    return struct.pack("<Q", len(value)) + value.encode()
settings = {"context_length": 16, "embedding_length": 8, "block_count": 1, "feed_forward_length": 8, "attention.head_count": 2,
            "attention.head_count_kv": 2, "rope.dimension_count": 4, "vocab_size": 16}
keys = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
keys += [text(f"llama.{name}") + struct.pack("<II", 4, value) for name, value in settings.items()]
keys.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
shapes = {"token_embd": (16, 8), "output_norm": (8,), "output": (16, 8), "blk.0.attn_norm": (8,), "blk.0.ffn_norm": (8,)}
shapes |= {f"blk.0.{name}": (8, 8) for name in "attn_q attn_k attn_v attn_output ffn_gate ffn_up ffn_down".split()}
infos, data = [], b""
for name, shape in shapes.items():
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
    infos.append(text(f"{name}.weight") + sizes + struct.pack("<IQ", 0, len(data)))
    values = numpy.random.default_rng(len(data)).standard_normal(shape).astype("float32").tobytes()
    data += values + bytes(-len(values) % 32)
head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys + infos)
(folder / "tiny-f32.gguf").write_bytes(head + bytes(-len(head) % 32) + data)
"""
"""Writes a whole, tiny Llama as GGUF version 3 into the folder (llama.cpp: `docs/gguf.md`)."""
