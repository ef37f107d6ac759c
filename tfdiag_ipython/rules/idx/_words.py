"""What several rules of this domain say of an index, or ask of the evidence."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from tfdiag_ipython.probe import Evidence


def index_title(call: Evidence) -> str:
    """What ``index-call`` found, as an answer: "`bad[0, 2]` is 9, and dimension 1 of `x` has 3 entries (0 to 2)"."""
    values = call["values"]
    place = f"[{', '.join(map(str, values['place']))}]" if values["place"] else ""
    allowed = f" ({call['low']:,} to {call['high']:,})" if call["high"] < sys.maxsize else ""
    said = f"`{call['index'] or call['argument']}{place}` is {values['first']:,}, and {call['limit']}{allowed}"
    return f"In {call['library']}: {said}" if call.get("library") and not call["own"] else said


def outside(values: Mapping[str, int], noun: str) -> str:
    """How many of the values are out of range, and how far they reach."""
    verb = "is" if values["count"] == 1 else "are"
    told = f"{values['count']:,} of {values['total']:,} {noun} {verb} out of range"
    if values["smallest"] == values["largest"]:
        return f"{told}."
    return f"{told}; they run from {values['smallest']:,} to {values['largest']:,}."


def too_long(seen: Evidence, message: str) -> bool:
    """Whether the failing call asked a model for more positions than it has.

    Positions that are computed may go on for ever, and `generate` may fail before it comes to their end: then the failing look-up must be
    one of positions, or the message speak of their number.
    """
    places = seen.get("positions") or {}
    if not places or places["length"] <= places["most"] or seen.get("role") in {"tokens", "token types"}:
        return False
    sure = places["learned"] and places["argument"] != "generate"
    return sure or seen.get("role") == "positions" or re.search(rf"\b{places['most']}\b", message) is not None


def bad_special_token(seen: Evidence, special: Evidence) -> str:
    """The name under which the configuration, or that of `generate`, holds the id that an embedding does not have; empty if under none."""
    values = seen.get("values") or {}
    if not special or seen.get("kind") != "embedding" or "first" not in values or seen["role"] not in {"tokens", ""}:
        return ""
    first = values["first"]
    if first >= 0 and (first < seen.get("tokenizer_length", 0) or not special["decodes"]):
        return ""  # a token that was added to the tokenizer: the embedding is too short, and the configuration right
    names = ["pad_token_id"]
    if special["decodes"]:  # the first column is the start
        names.insert(0 if values["place"][-1:] == (0,) else 1, "decoder_start_token_id")
    ids = special["generation"] or special["config"]
    return next((name for name in names if ids.get(name) == first), "")
