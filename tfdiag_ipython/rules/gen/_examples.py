"""Cells that the cases of this domain share."""

MODEL = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
small = dict(vocab_size=10, n_embd=8, n_layer=1, n_head=1, n_positions=32)
model = GPT2LMHeadModel(GPT2Config(**small, bos_token_id=None, eos_token_id=None, pad_token_id=0)).eval()
prompt = torch.tensor([[3, 4, 5, 6, 7]])
"""
