"""Tables about the libraries, each read once, when a rule first needs it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any


@functools.cache
def table(name: str) -> Mapping[str, Any]:
    """The JSON table of this name (``"symbols"``); treat it as read-only."""
    loaded: Mapping[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return loaded


def moved_to(module: str) -> str | None:
    """Where a module of transformers or torch is now; empty where it is gone, ``None`` where nothing is known of it."""
    for pattern, target in table("symbols")["modules"].items():
        found = re.fullmatch(pattern.replace(".", r"\.", 1), module)
        if found:
            return str(target).format(**found.groupdict())
    return None
