"""Sizes in words. Of bytes: files in decimal units, as listings and the Hub show them; memory in binary ones, as PyTorch does."""

from __future__ import annotations


def file_size(number: int) -> str:
    """``438 MB``"""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} bytes"


def memory_size(number: int | None) -> str:
    """``14.75 GiB``"""
    if number is None:
        return "an unknown amount"
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if number >= factor:
            return f"{number / factor:.2f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{number} bytes"


def sized(shape: tuple[int, ...]) -> str:
    """``8 × 128``, of a tensor's shape."""
    return " × ".join(f"{size:,}" for size in shape) or "one number"
