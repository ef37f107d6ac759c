"""From a model type to the releases that know it, by the history of transformers' exported names."""

from __future__ import annotations

import functools
import re

from tfdiag_ipython.data import table


def first_release(model_type: str) -> str:
    """The first minor release of transformers that exports this model type's configuration class.

    Empty where the history has no such class, or where its oldest release (4.18) had it already. A model type is the class's name in
    small letters with separators (``qwen2_moe``: ``Qwen2MoeConfig``), which holds for all but a few.
    """
    return _configurations().get(_plain(model_type)) or _configurations().get(
        _plain(model_type.removesuffix("_model")), ""
    )


@functools.cache
def _configurations() -> dict[str, str]:
    first = table("transformers_names")["first"].items()
    return {_plain(name[:-6]): release for release, names in first for name in names.split() if name.endswith("Config")}


def _plain(model_type: str) -> str:
    return re.sub(r"[^a-z0-9]", "", model_type.lower())
