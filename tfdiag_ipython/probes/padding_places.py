"""Why a model answers otherwise behind padding on the left, though its mask is right: its positions, or the place that it answers from."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from typing import Any

from tfdiag_ipython.probes.padding_batch import Batch
from tfdiag_ipython.probes.padding_models import Hidden, Incomparable
from tfdiag_ipython.probes.padding_runs import compare_calls

POSITIONS, PLACE, BOTH = "positions", "place", "both"
"""The text's positions count the padding; the answer is read from a place that holds padding; both."""
TABLE = re.compile(r"^wpe$|pos", re.IGNORECASE)
"""What models call their tables of positions: ``position_embeddings``, ``embed_positions``, ``positions_embed``, ``wpe``."""


def counts_padding(model: Any) -> bool:
    """Whether a model looks a token's position up by its place in the row, padding included, as BERT, GPT-2 and BART do.

    Read off the modules: a table of positions beside that of the tokens. RoBERTa's knows the padding token and skips it, OPT's takes
    the mask; rotary and relative positions have no such table.
    """
    embedding: Any = sys.modules["torch"].nn.Embedding  # the model's own kind
    try:
        tokens = model.get_input_embeddings().weight
        if getattr(model.config, "position_embedding_type", "absolute") != "absolute":
            return False
    except Exception:  # models of the person's own may have neither
        return False
    for module in model.modules():
        tables = {name: child for name, child in module.named_children() if isinstance(child, embedding)}
        if any(table.weight is tokens for table in tables.values()):
            found = (table for name, table in tables.items() if TABLE.search(name) and table.padding_idx is None)
            if any("attention_mask" not in inspect.signature(table.forward).parameters for table in found):
                return True
    return False


def what_moved(model: Any, batch: Batch, row: int, torch: Any) -> str:
    """Why padding on the right cures what neither the mask nor positions do: one of the above; empty where that is not known.

    Measured on one row, below the model's head: where the mask is enough there, the text is read right, and the head is what reads
    padding; where positions are, both are at fault.
    """
    here = slice(row, row + 1)
    given = {name: value[here] for name, value in batch.given.items() if value.shape[:1] == batch.mask.shape[:1]}
    given.pop("attention_mask", None)
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        with contextlib.suppress(Incomparable):
            seen = compare_calls(model, Batch(given, batch.mask[here]), torch, kind=Hidden)
            if not seen.wrong("with"):
                return PLACE
            if seen.worst("positions") is not None and not seen.wrong("positions"):
                return BOTH
    return POSITIONS if counts_padding(model) else ""
