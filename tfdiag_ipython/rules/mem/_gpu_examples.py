"""Programs that really run out of a GPU's memory, most of them under a share of 2 GiB, so that any card will do."""

from __future__ import annotations

SHARE = """
import gc, tempfile, torch

gc.collect()
torch.cuda.empty_cache()
torch.cuda.set_per_process_memory_fraction(2 * 2**30 / torch.cuda.get_device_properties(0).total_memory)
"""
# 64 rows ask for more than the device has, 32 rows for four fifths of it.
GPU_TRAINING = """
import tempfile, torch
from transformers import Trainer, TrainingArguments

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        row = torch.cuda.mem_get_info()[1] // 40
        scratch = torch.empty(len(x) * row, dtype=torch.uint8, device=x.device)
        return {"loss": (x * self.weight - labels).square().mean()}

data = [{"x": 0.1, "labels": 0.5} for _ in range(64)]
folder = tempfile.mkdtemp()
"""
# 24 layers keep some 110 MiB each in 32 bits: too much for 2 GiB, while half of it fits.
GPU_DEEP = (
    SHARE
    + """
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

def model(layers):
    shape = dict(vocab_size=16, n_positions=512, n_embd=96, n_head=4, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    return GPT2LMHeadModel(GPT2Config(n_layer=layers, **shape))

data = [{"input_ids": [1] * 512, "labels": [1] * 512} for _ in range(16)]
folder = tempfile.mkdtemp()
"""
)
# Weights and gradients of 9 × 64 MiB each; AdamW would add twice as much.
GPU_STACK = (
    SHARE
    + """
from transformers import Trainer, TrainingArguments

class Stack(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.full((size, size), 1e-3) for _ in range(9))

    def forward(self, x, labels=None):
        return {"loss": sum(weight.sum() for weight in self.weights) * (x - labels).square().mean()}

data = [{"x": 0.1, "labels": 0.5} for _ in range(8)]
folder = tempfile.mkdtemp()
"""
)
# Each batch's forward pass saves 32 MiB for a backward pass that never comes.
GPU_COLLECTS = (
    SHARE
    + """
model = torch.nn.Sequential(torch.nn.Linear(2**10, 2**10), torch.nn.Tanh(), torch.nn.Linear(2**10, 2)).cuda()
"""
)
GPU_LEAKS = SHARE + "results = [torch.ones(2**24, device='cuda') for _ in range(20)]\n"
# All seven large blocks are given back, and a piece of more than half of each is taken: the other half can be returned to nobody.
GPU_PIECES = (
    SHARE
    + """
def block(mebibytes):
    return torch.empty(mebibytes * 2**20, dtype=torch.uint8, device="cuda")

large = [block(256) for _ in range(7)]
kept = []
while large:
    large.pop()
    kept.append(block(130))
"""
)


def gpu_arguments(batch: int) -> str:
    """A cell with a training's arguments for one step of this batch on the GPU."""
    return f"""
arguments = TrainingArguments(
    output_dir=folder, max_steps=1, report_to=[], save_strategy="no", disable_tqdm=True,
    per_device_train_batch_size={batch}, gradient_accumulation_steps=1,  # one step in one go
)
"""
