"""Cells and values that the cases of this domain share."""

TOKENIZER = """
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
words = "[PAD] [UNK] the a film plot was good bad dull".split()
core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
"""
BERT = (
    TOKENIZER
    + """
from transformers import BertConfig, BertForSequenceClassification
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
model = BertForSequenceClassification(BertConfig(vocab_size=10, **sizes)).eval()
"""
)
GPT2 = (
    TOKENIZER
    + """
from transformers import GPT2Config, GPT2LMHeadModel
tokenizer.model_input_names = ["input_ids", "attention_mask"]
small = dict(n_embd=8, n_layer=1, n_head=1, n_positions=32, bos_token_id=None, eos_token_id=None, pad_token_id=0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=10, **small)).eval()
"""
)
DISTILBERT = (
    TOKENIZER
    + """
from transformers import DistilBertConfig, DistilBertModel
model = DistilBertModel(DistilBertConfig(vocab_size=10, dim=8, hidden_dim=8, n_layers=1, n_heads=2)).eval()
"""
)
MODELING = (
    "Traceback (most recent call last):\n"
    '  File "classify.py", line 9, in <module>\n    result = net({written})\n'
    '  File "/opt/py/site-packages/torch/nn/modules/module.py", line 1194, in _call_impl\n    return forward_call(*input, **kwargs)\n'
    '  File "/opt/py/site-packages/transformers/models/bert/modeling_bert.py", line 988, in forward\n    {line}\n'
)
"""The way of a stored failure through BERT, up to its last line."""
