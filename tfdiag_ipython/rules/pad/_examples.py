"""Cells and values that the cases of this domain share."""

from types import MappingProxyType

TOKENIZER = """
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
core = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "good": 2, "film": 3}, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>")
"""
SETUP = """
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
sizes = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(BertConfig(**sizes, initializer_range=0.5)).eval()
ids = torch.tensor([[2, 5, 7, 9, 11, 3], [2, 8, 3, 0, 0, 0]])
batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
"""
DECODER = """
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
words = "[PAD] [UNK] the a film plot was good bad dull".split()
core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
torch.manual_seed(0)
small = dict(vocab_size=10, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=None, eos_token_id=None)
model = GPT2LMHeadModel(GPT2Config(**small, pad_token_id=0, initializer_range=0.5)).eval()
"""
TRANSLATOR = """
from transformers import BartConfig, BartForConditionalGeneration
tiny = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32)
tiny |= dict(pad_token_id=0, bos_token_id=1, eos_token_id=39, decoder_start_token_id=1, forced_eos_token_id=None)
model = BartForConditionalGeneration(BartConfig(vocab_size=40, d_model=16, init_std=0.5, max_position_embeddings=32, **tiny)).eval()
"""
BART = """
from transformers import BartConfig, BartModel
torch.manual_seed(0)
tiny = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32)
model = BartModel(BartConfig(vocab_size=10, d_model=16, pad_token_id=0, init_std=0.5, max_position_embeddings=32, **tiny)).eval()
"""
ROBERTA = """
from transformers import RobertaConfig, RobertaForSequenceClassification
torch.manual_seed(0)
tiny = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32)
model = RobertaForSequenceClassification(RobertaConfig(vocab_size=10, **tiny, pad_token_id=0, initializer_range=0.5)).eval()
"""
FACTS = MappingProxyType(
    {
        "asgiven": 0.42,
        "without": 0.42,
        "with": 3e-7,
        "positions": None,
        "right": None,
        "tolerance": 1e-5,
        "cause": "mask",
        "moved": "",
        "method": "call",
        "rows": 4,
        "padded": 3,
        "changed": (1, 3),
        "picture": ((1, 5, 0.42, 1e-7, True), (2, 7, 0.02, 3e-7, False), (3, 2, 0.3, 2e-7, True)),
        "output": "logits",
        "side": "right",
        "model": "model",
        "inputs": "batch",
        "mask": 'batch["attention_mask"]',
        "argument": "attention_mask",
        "given": True,
        "model_class": "BertForSequenceClassification",
        "unmasked": (("cell 3", 'model(batch["input_ids"])'),),
        "masked": (),
        "editable": True,
    }
)
SUSPICION = MappingProxyType(
    {
        key: FACTS[key]
        for key in ("unmasked", "rows", "padded", "model", "inputs", "method", "side", "mask", "given", "model_class")
    }
    | {"editable": False, "unmeasured": "slow"}
)
