"""Checkpoints, weight files and state dicts."""
