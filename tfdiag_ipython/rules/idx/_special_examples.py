"""Cells and recorded evidence for the rule about special tokens: encoder-decoders whose configuration names no token."""

from typing import Any

BART = """
import torch
from transformers import BartConfig, BartForConditionalGeneration
layers = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1)
wide = dict(vocab_size=40, d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=12)
ids = torch.tensor([[5, 6, 7], [8, 9, 2]])
def make(**special):
    return BartForConditionalGeneration(BartConfig(**layers, **wide, **special))
"""
T5 = """
import torch
from transformers import T5Config, T5ForConditionalGeneration
small = dict(vocab_size=40, d_model=8, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
ids = torch.tensor([[5, 6, 7], [8, 9, 2]])
"""
COMPOSED = """
import torch
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel, PreTrainedTokenizerFast
core = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 1, "a": 2}, unk_token="[PAD]"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]")
sizes = dict(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
encoder = BertModel(BertConfig(**sizes))
decoder = BertLMHeadModel(BertConfig(**sizes, is_decoder=True, add_cross_attention=True))
ids = torch.tensor([[5, 6, 7], [8, 9, 2]])
"""
_IDS: dict[str, Any] = {"decoder_start_token_id": -1, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
SEEN: dict[str, dict[str, Any]] = {
    "special-tokens": {
        "model": "model",
        "model_type": "t5",
        "decodes": True,
        "rows": 40,
        "config": _IDS,
        "generation": {},
        "defaults": {**_IDS, "decoder_start_token_id": None},
        "tokenizer": "",
        "tokens": {},
    },
    "index-tensors": {
        "kind": "embedding",
        "role": "tokens",
        "module": "shared",
        "limit": 40,
        "values": {"smallest": -1, "largest": 9, "first": -1, "place": (0, 0), "count": 2, "total": 6},
    },
}
