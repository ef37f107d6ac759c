"""Programs that really run out of the host's memory, under a limit on this process's address space."""

from __future__ import annotations

TRAINED = {"trains": True, "batch": {"call": "TrainingArguments", "size": 16, "steps": 1, "cell": "cell 3"}}
"""What the memory probe knows of a training loop, its sizes apart."""

# One activation is 4 MiB a row: 64 rows keep five of them at once, 32 rows half of that, and the limit lies between.
WIDE = """
import tempfile, torch
from transformers import Trainer, TrainingArguments

torch.set_num_threads(1)

class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2**20))

    def forward(self, x, labels=None):
        hidden = torch.sigmoid(torch.tanh(torch.exp(x[:, None] * self.weight)))
        return {"loss": (hidden.mean(1) - labels).square().mean()}

data = [{"x": 0.1, "labels": 0.5} for _ in range(64)]
folder = tempfile.mkdtemp()
warm = TrainingArguments(
    output_dir=folder, max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True
)
Trainer(Wide(), warm, train_dataset=data[:2]).train()
"""
# Weights and gradients of 2 × 100 MiB each; AdamW adds twice as much, Adafactor works on some 300 MiB at a time. The limit is such that
# half of the block that AdamW is refused is still there: tfdiag itself needs a little.
STACK = """
import tempfile, torch
from transformers import Trainer, TrainingArguments

torch.set_num_threads(1)

class Stack(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.full((size, size), 1e-3) for _ in range(2))

    def forward(self, x, labels=None):
        return {"loss": sum(weight.sum() for weight in self.weights) * (x - labels).square().mean()}

data = [{"x": 0.1, "labels": 0.5} for _ in range(8)]
folder = tempfile.mkdtemp()
for optimizer in ("adamw_torch", "adafactor"):
    warm = TrainingArguments(output_dir=folder, max_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, optim=optimizer)
    Trainer(Stack(4), warm, train_dataset=data).train()
"""
# Each layer keeps some 170 MiB for the backward pass (measured with 8 rows); its blocks are so large that what is left when one is
# refused is enough for tfdiag.
DEEP = """
import tempfile, torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

torch.set_num_threads(1)

def model(layers):
    return GPT2LMHeadModel(GPT2Config(vocab_size=16, n_positions=1024, n_embd=32, n_head=1, n_layer=layers))

data = [{"input_ids": [1] * 1024, "labels": [1] * 1024} for _ in range(8)]
folder = tempfile.mkdtemp()
for again in (False, True):
    warm = TrainingArguments(
        output_dir=folder, max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, save_strategy="no",
        disable_tqdm=True, gradient_checkpointing=again,
    )
    Trainer(model(1), warm, train_dataset=data[:2]).train()
"""
# Each batch's forward pass saves 72 MiB for a backward pass that never comes; blocks of that size go back to the system when they are freed.
COLLECTS = """
import torch

torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(2**10, 2**10), torch.nn.Tanh(), torch.nn.Linear(2**10, 2))
"""
EVALUATES = """
scores = []
for step in range(30):
    scores.append(model(torch.ones(9 * 2**10, 2**10)))
"""
ARGUMENTS = """
arguments = TrainingArguments(
    output_dir=folder, max_steps=1, report_to=[], use_cpu=True,
    per_device_train_batch_size={batch},  # all at once
    save_strategy="no", disable_tqdm=True,
)
"""


def limit(mebibytes: int) -> str:
    """A cell that lets this process grow by so much and no more, also when it is run again."""
    return f"""
import libcst, resource

libcst.parse_module("")  # the edit needs it: its native library must be mapped before the limit
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
    resource.setrlimit(resource.RLIMIT_AS, (used + {mebibytes} * 2**20, resource.RLIM_INFINITY))
"""
