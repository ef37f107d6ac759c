"""The set-up of Reproduce cases that need TensorFlow itself; they run where it is installed and are skipped elsewhere."""

TENSORFLOW = ("torch", "transformers<5", "tensorflow", "tf-keras")
TENSORFLOW_SETUP = """
import os, tempfile
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.chdir(tempfile.mkdtemp())
import tensorflow as tf
from transformers import BertConfig, TFBertForSequenceClassification, TFBertModel
config = BertConfig(vocab_size=24, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12)
model = TFBertForSequenceClassification(config)
model.build()
"""
