"""The seed topics as a person meets them: real cells in a real kernel, the fix clicked over the comm, the outcome read off the panel."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytestmark = [pytest.mark.kernel, pytest.mark.hf]
START = """
%load_ext tfdiag
import os, sys, tempfile
sys.path.insert(0, {notebooks!r})
import tiny
os.chdir(tempfile.mkdtemp())
os.environ["HF_HOME"] = os.path.abspath("hub")
os.environ["HF_ENDPOINT"] = tiny.blocked_hub(401)
import torch
from transformers import BertForSequenceClassification
tiny.start(5)
"""
REVIEWS = """
reviews = ["the plot was not good but i liked it all", "dull", "a great film", "very bad"]
tiny.start(5)
model = BertForSequenceClassification(tiny.bert_config()).eval()
batch = tiny.tokenizer()(reviews, padding=True, return_tensors="pt")
"""
TOPICS = {
    "CFG001": (
        [
            "checkpoint = tiny.vit()",
            "from transformers import AutoModelForQuestionAnswering\nAutoModelForQuestionAnswering.from_pretrained(checkpoint)",
        ],
        "Load it with AutoModelForImageClassification",
        None,
    ),
    "IMP001": (["from transformers import BertModell"], "Write BertModel", "BertModel.__name__"),
    "HUB001": (
        [
            "from transformers import AutoTokenizer\nname = tiny.cached()",
            "tokenizer = AutoTokenizer.from_pretrained(name)",
        ],
        "offline",
        "len(tokenizer)",
    ),
    "TFW001": (
        ["folder = tiny.tensorflow_bert()", "model = BertForSequenceClassification.from_pretrained(folder)"],
        "Convert",
        "os.path.exists('models/bert-tensorflow/model.safetensors')",
    ),
    "MEM002": (
        ["def step():\n    kept = torch.ones(2**22)\n    return torch.empty(2**46)", "step()"],
        "Free 16 MiB",
        None,
    ),
    "IDX003": (
        [
            "labels = torch.tensor([1, 2, 3])",
            "model = BertForSequenceClassification(tiny.bert_config(num_labels=3))",
            "batch = tiny.tokenizer()(['good', 'bad', 'fine'], return_tensors='pt')\nloss = model(**batch, labels=labels).loss",
        ],
        "Count the labels from 0",
        "labels.tolist()",
    ),
    "PAD001": (
        [REVIEWS, 'logits = model(batch["input_ids"]).logits', "%tfdiag probe padding model batch"],
        "Pass the attention mask",
        None,
    ),
}


@pytest.fixture(scope="module")
def page():
    from jupyter_client.manager import start_new_kernel
    from page import Page

    manager, client = start_new_kernel()
    try:
        yield Page(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def values(shown):
    return [item["data"]["text/plain"] for item in shown if item.get("data", {}).get("text/plain", "").strip()]


@pytest.fixture(scope="module")
def started(page):
    page.run(START.format(notebooks=str(ROOT / "notebooks")))
    return page


@pytest.mark.parametrize("code", TOPICS)
def test_diagnosed_fixed_with_a_click_and_verified(started, code):
    cells, label, after = TOPICS[code]
    *before, last = cells
    for source in before:
        assert not [item for item in started.run(source) if "ename" in item]
    told = values(started.run(last))
    assert told and code in told[-1], told
    button = started.button(re.escape(label))
    assert button, list(started.buttons())
    started.click(button)
    apply = started.button("^Apply")
    assert apply or "(safe)" in button
    if apply:
        started.click(apply)
    assert "Verified" in started.text(), started.text()[-1500:]
    if after is not None:
        assert values(started.run(after))[-1] not in {"", "False", "[1, 2, 3]"}


def test_a_warning_of_generate_is_diagnosed_under_observation(started):
    setup = """
from transformers import GPT2Config, GPT2LMHeadModel
decoder = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1, n_positions=32, pad_token_id=0, eos_token_id=3))
import transformers
transformers.logging.set_verbosity_warning()
"""
    started.run(setup)
    ids = "ids = torch.tensor([[5, 6, 7], [8, 0, 0]])\n"
    shown = started.run(
        f"%%tfdiag\n{ids}text = decoder.generate(ids, attention_mask=(ids != 0).long(), max_new_tokens=2)"
    )
    assert any("PAD004" in value for value in values(shown)), values(shown)
