"""Cells and words that the cases of this domain share."""

from __future__ import annotations

from tfdiag_ipython.rules.pad._examples import TOKENIZER

TRAINER = """
import tempfile
from transformers import BertConfig, BertForSequenceClassification, BertModel, Trainer, TrainingArguments
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
model = BertForSequenceClassification(BertConfig(**sizes))
arguments = TrainingArguments(tempfile.mkdtemp(), max_steps=1, use_cpu=True, report_to=[], save_strategy='no', disable_tqdm=True)
"""
NEEDS = ("torch", "transformers", "accelerate")
LANGUAGE_MODEL = (
    TRAINER
    + TOKENIZER
    + "from transformers import GPT2Config, GPT2LMHeadModel\n"
    + "tokenizer.pad_token = tokenizer.eos_token\n"
    + "model = GPT2LMHeadModel(GPT2Config(vocab_size=4, n_positions=8, n_embd=4, n_layer=1, n_head=1))\n"
    + "rows = [{'input_ids': [2, 3, 1]}, {'input_ids': [3, 2, 1]}]"
)
OWN_ROWS = (
    "import torch\nclass Reviews(torch.utils.data.Dataset):\n"
    "    def __init__(self):\n        self.ids = torch.tensor([[1, 2], [3, 4]])\n        self.targets = [1, 0]\n"
    "    def __len__(self):\n        return 2\n"
    "    def __getitem__(self, number):\n        return {'input_ids': self.ids[number]}\n"
    "reviews = Reviews()"
)
OWN_MODEL = (
    "import torch\nclass Scorer(torch.nn.Module):\n"
    "    def __init__(self):\n        super().__init__()\n        self.line = torch.nn.Linear(2, 2)\n"
    "    def forward(self, x, labels=None):\n        return {'scores': self.line(x)}"
)
