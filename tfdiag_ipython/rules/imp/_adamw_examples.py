"""Cells that use the AdamW of old releases of transformers, and check that they mean the same afterwards."""

TRAIN = """\
import torch
from transformers import (
    AdamW,
    get_linear_schedule_with_warmup,
)

layer = torch.nn.Linear(2, 2)
optimizer = AdamW(layer.parameters(), lr=1e-3, correct_bias=False)  # as in the old examples
assert optimizer.defaults["weight_decay"] == 0.0 and optimizer.defaults["eps"] == 1e-6
"""
# By position, under another name, in a `partial`, in a function; PyTorch's own class beside it keeps its own defaults.
KEPT = """\
import functools

import torch
from transformers import AdamW as Opt

parts = list(torch.nn.Linear(2, 2).parameters())
by_place = Opt(parts, 1e-3, (0.9, 0.999), 1e-7, 0.01, True)
make = functools.partial(Opt, lr=1e-3, correct_bias=True)


def build():
    return Opt(parts, no_deprecation_warning=True)


values = [(made.defaults["eps"], made.defaults["weight_decay"]) for made in (by_place, make(parts), build())]
assert values == [(1e-7, 0.01), (1e-6, 0.0), (1e-6, 0.0)] and not by_place.defaults["amsgrad"]
assert torch.optim.AdamW(parts).defaults["weight_decay"] == 0.01
"""
HIDDEN = """\
import torch
import transformers

options = {"lr": 1e-3, "eps": 1e-5}
optimizer = transformers.AdamW(torch.nn.Linear(2, 2).parameters(), **options)
assert optimizer.defaults["eps"] == 1e-5 and optimizer.defaults["weight_decay"] == 0.0
"""
