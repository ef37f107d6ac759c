"""Rules about tokenizers and batches."""
