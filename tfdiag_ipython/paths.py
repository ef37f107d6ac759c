"""Paths as a person in this working folder would write them."""

from __future__ import annotations

import os


def from_here(path: str) -> str:
    """``models/bert`` for a path below the working folder, any other path as it is."""
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:  # the working folder was deleted
        return path
    return path[len(here) :] if path.startswith(here) and len(path) > len(here) else path
