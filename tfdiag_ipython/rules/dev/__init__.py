"""Tensors on different devices."""
