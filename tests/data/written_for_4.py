"""An old example."""

import os
import tempfile

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

folder = os.environ.get("TRANSFORMERS_CACHE", tempfile.mkdtemp())
words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[PAD]": 2}, unk_token="a"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]").save_pretrained(folder)
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 9}
BertForSequenceClassification(BertConfig(**sizes)).save_pretrained(folder, safe_serialization=True)

tokenizer = AutoTokenizer.from_pretrained(folder, use_auth_token=False)
model = AutoModelForSequenceClassification.from_pretrained(
    folder,
    use_auth_token=False,  # public
    resume_download=True,
)


def encode(text):
    batch = tokenizer.encode_plus(text, padding="max_length", max_length=4)
    with tokenizer.as_target_tokenizer():
        target = tokenizer(text)
    batch["labels"] = target["input_ids"][0]
    return batch


class MyTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return super().compute_loss(model, inputs, return_outputs)


arguments = TrainingArguments(
    output_dir=folder,
    overwrite_output_dir=True,
    per_gpu_train_batch_size=2,
    no_cuda=True,
    warmup_ratio=0.5,
    logging_dir=folder,
    group_by_length=True,
    save_safetensors=True,
    report_to=[],
    max_steps=2,
)
trainer = MyTrainer(model, arguments, train_dataset=[encode("a b"), encode("b a"), encode("a")], tokenizer=tokenizer)
trainer.train()
print(trainer.tokenizer.additional_special_tokens, tokenizer("a b").words())

decoder = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=1))
decoder.config.max_length = 6
print(decoder.generate(torch.tensor([[2, 3]]), pad_token_id=1, do_sample=False, min_length=6).shape, "done")
