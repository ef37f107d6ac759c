"""Cells that the cases of these rules begin with."""

from __future__ import annotations

SAVED = (
    "import tempfile\nfrom transformers import BertConfig, BertModel\nfolder = tempfile.mkdtemp()\n"
    "sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)\n"
    "BertModel(BertConfig(**sizes)).save_pretrained(folder)"
)
TOKENIZER = (
    "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
    "words = Tokenizer(models.WordLevel({'a': 0, 'b': 1}, unk_token='a'))\n"
    "tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token='b')"
)
