"""Tables about the libraries, each read once, when a rule first needs it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any


@functools.cache
def table(name: str) -> Mapping[str, Any]:
    """The JSON table of this name (``"symbols"``); treat it as read-only."""
    loaded: Mapping[str, Any] = json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8"))
    return loaded
