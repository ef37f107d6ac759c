"""Cells and words that the cases of this domain share."""

TRAINER = """
import tempfile
from transformers import BertConfig, BertForSequenceClassification, BertModel, Trainer, TrainingArguments
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
model = BertForSequenceClassification(BertConfig(**sizes))
arguments = TrainingArguments(tempfile.mkdtemp(), max_steps=1, use_cpu=True, report_to=[], save_strategy='no', disable_tqdm=True)
"""
NEEDS = ("torch", "transformers", "accelerate")
