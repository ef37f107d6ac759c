"""Record what tfdiag shows on a GPU, for the notebooks, which run without one: ``python tools/record_gpu.py [FILE]``.

Runs each scene in a kernel of its own, on a machine with a CUDA device, torch, transformers, accelerate and ipykernel, and writes cells
and what a reader sees below them, with the names of card and versions (``notebooks/gpu.json``).
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from jupyter_client.manager import start_new_kernel

from tfdiag_ipython.rules.mem._gpu_examples import GPU_COLLECTS, GPU_DEEP, GPU_PIECES, gpu_arguments

FILE = Path(__file__).resolve().parent.parent / "notebooks" / "gpu.json"
LOAD = "%load_ext tfdiag_ipython"
CLICK = """
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.shell.extension import extension_of

session = extension_of(get_ipython()).last
plan = session.plan(session.diagnoses[0], session.diagnoses[0].fix("{}"))
done, verification = session.apply(plan, Progress())
print(verification.status.value, "-", verification.detail)
"""
QUIET = "import transformers\n\ntransformers.logging.set_verbosity_error()\n"
BERT = """
import torch
from transformers import BertConfig, BertForSequenceClassification

torch.manual_seed(0)
model = BertForSequenceClassification(BertConfig(pad_token_id=0)).cuda()
optimizer = torch.optim.AdamW(model.parameters())
ids = torch.randint(1, 30000, (8, 128))
ids[1, 40:] = 0
batch = {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.zeros(8, dtype=torch.long)}
"""
STEP = """
loss = model(**{name: value.cuda() for name, value in batch.items()}).loss
loss.backward()
optimizer.step()
losses = [model(input_ids=ids.cuda(), attention_mask=(ids != 0).long().cuda()).logits.sum() for _ in range(2)]
"""
LABELS = """
labels = torch.tensor([1, 2, 3, 4, 5, 5, 5, 5])
model = BertForSequenceClassification(BertConfig(num_labels=5)).cuda()
"""
LOSS = """
outputs = model(batch["input_ids"].cuda(), attention_mask=batch["attention_mask"].cuda(), labels=labels.cuda())
print(outputs.loss.item())
"""
SCENES: dict[str, tuple[str, ...]] = {
    "ledger": (BERT, STEP, "%tfdiag probe memory"),
    "graphs": (
        GPU_COLLECTS,
        "scores = []\nfor step in range(100):\n    scores.append(model(torch.ones(2**12, 2**10, device='cuda')))",
        CLICK.format("detach-collected"),
    ),
    "gpu": ("import torch\n\nready = torch.ones(1, device='cuda')", "%tfdiag probe gpu"),
    "batch": (
        GPU_DEEP,
        gpu_arguments(16),
        "Trainer(model(24), arguments, train_dataset=data).train()",
        CLICK.format("checkpoint-activations"),
    ),
    "pieces": (GPU_PIECES, "more = torch.empty(300 * 2**20, dtype=torch.uint8, device='cuda')"),
    "fits": (BERT, "%tfdiag probe fits model batch --optimizer optimizer"),
    "assert": (BERT, LABELS, LOSS, "%tfdiag probe memory"),
    "guard": (BERT, LABELS, f"%%tfdiag --guard\n{LOSS.strip()}", "print(torch.ones(2, device='cuda').sum())"),
    "padding": (BERT, "%%tfdiag\nwith torch.no_grad():\n    scores = model(ids.cuda()).logits"),
}
"""Programs by name; each runs in a kernel of its own."""


def seen(client: Any, source: str) -> str:
    """Run a cell; what a reader sees below it, as plain text: of a traceback the last line alone."""
    identity, text = client.execute(source, stop_on_error=False), ""
    while True:
        message = client.get_iopub_msg(timeout=300)
        content = message["content"]
        if message["parent_header"].get("msg_id") != identity:
            continue
        if message["msg_type"] == "stream":
            text += content["text"]
        elif message["msg_type"] == "error":
            text += f"{content['ename']}: {content['evalue']}\n"
        elif "data" in content:
            text += content["data"].get("text/plain", "") + "\n"
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            client.get_shell_msg(timeout=60)
            return plain(text)


def plain(text: str) -> str:
    """Text without terminal codes, what a progress line wrote over, and this machine's own paths."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    text = re.sub(r"[^\n]*\r(?!\n)", "", text)
    text = re.sub(r"/\S*?/(?=(?:site-packages|ipykernel_\d+)/)", "…/", text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def record(cells: tuple[str, ...]) -> list[dict[str, str]]:
    """Each cell of a scene with what it showed."""
    manager, client = start_new_kernel()
    try:
        for source in (LOAD, QUIET):
            seen(client, source)
        return [{"source": source.strip(), "output": seen(client, source.strip())} for source in cells]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main(file: Path) -> None:
    """Record all scenes into a JSON file."""
    told: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "scenes": {name: record(cells) for name, cells in SCENES.items()},
    }
    file.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    for name, cells in told["scenes"].items():
        for cell in cells:
            print(f"--- {name}\n{cell['source'].splitlines()[-1]}\n{cell['output']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FILE)
