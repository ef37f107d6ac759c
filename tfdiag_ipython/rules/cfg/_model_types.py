"""From a model type to the releases that know it, by the history of transformers' ``CONFIG_MAPPING_NAMES``."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from tfdiag_ipython.data import table


def first_release(model_type: str) -> str:
    """The first minor release of transformers that knows this model type; empty where the oldest (4.18) did, or none does.

    Its folder's name will do, too: it differs from the type in separators at most.
    """
    return _releases("types_first").get(_plain(model_type), "")


def removed_in(model_type: str) -> str:
    """The first minor release of transformers that knows this model type no more; empty where there is none."""
    return _releases("types_gone").get(_plain(model_type), "")


@functools.cache
def _releases(kind: str) -> Mapping[str, str]:
    found = reversed(table("transformers_names")[kind].items())  # of two spellings the older one counts
    return {_plain(name): release for release, names in found for name in names.split()}


def _plain(model_type: str) -> str:
    return re.sub(r"[^a-z0-9]", "", model_type.lower())
