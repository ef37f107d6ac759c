"""Padding and attention masks."""
