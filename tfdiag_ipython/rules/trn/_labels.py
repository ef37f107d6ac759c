"""What names tell of labels, of losses and of heads."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LABELS = re.compile(
    r"label|target|class(?!ifier)|categor|score|rating|sentiment|answer|gold|\by\b|(?:^|_)tags?$", re.I
)
_COUNTED = re.compile(r"(?:^|_)(?:id|ids|idx|index|number|length|size|len|count|time|level_\d+_*)$", re.I)
HIDDEN = {"last_hidden_state", "pooler_output", "hidden_states", "attentions", "past_key_values"}
"""Fields of outputs that models without a head give."""
_TASKS = (
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForImageClassification",
    "AutoModelForAudioClassification",
)
"""Auto classes whose models are trained most, in the order in which they are named."""


def says_labels(name: str) -> bool:
    """Whether a column of this name may hold labels."""
    return _LABELS.search(name) is not None


def counts(name: str) -> bool:
    """Whether numbers of this name number or measure something, and are no labels."""
    return _COUNTED.search(name) is not None


def language_model(model: str) -> str:
    """``causal`` or ``masked``, by the class's name; empty for other models."""
    if model.endswith(("ForMaskedLM", "WithLMHeadModel")):
        return "masked"
    return "causal" if model.endswith(("ForCausalLM", "LMHeadModel")) else ""


def with_head(heads: Mapping[str, str]) -> list[str]:
    """Up to three classes of a model type with the heads that are trained most; ``heads``: class by auto class."""
    writer = "AutoModelForCausalLM" if "AutoModelForMaskedLM" in heads else ""  # of an encoder nobody means it
    return [heads[auto] for auto in _TASKS if auto in heads and auto != writer][:3]
