"""The words of a Hub that could not be reached."""

from __future__ import annotations

from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit
from tfdiag_ipython.rules.hub._causes import PLAIN, REMEDIES, Cause
from tfdiag_ipython.rules.hub._remedies import cache_told


def switch_told(seen: Evidence) -> str:
    """What switched offline mode on: the variables that are set, else somebody's own line of code."""
    if not seen:
        return "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE"
    return " and ".join(dict(seen.get("variables", {}))) or "switched on by this program itself"


def unreachable_title(told: str, cause: Cause, hit: Hit, seen: Evidence) -> str:
    """What stopped it, and what the cache holds of what was asked for."""
    cached = cache_told(seen.facts)
    told += " (`local_files_only=True`)" if cached and cause.kind == "local-only" else ""
    if cached:
        joint = ", and " if cause.kind in {"switch", "local-only"} else "; "
        advice = ": go offline" if seen.get("complete") and not seen.get("offline") else ""
        return f"{told}{joint}{cached}{advice}"[:200]
    if not cause.kind and (hit["endpoint"] or hit["uncached"]):
        return f"{told}, and the file is not in the local cache"
    if cause.kind == "local-only":
        return f"{told} (`local_files_only=True` or offline mode), and the local cache does not have what was asked for"
    return told


def unreachable_why(cause: Cause, seen: Evidence) -> str:
    """The sentence under it: how this comes about, and what helps."""
    late = ", ".join(f"{name}={value}" for name, value in dict(seen.get("variables", {})).items())
    if late and not seen.get("offline"):
        return f"{late} was set after huggingface_hub was imported: the library reads it once, on import, so it has no effect."
    if cause.kind == "switch":
        return "The library asks nobody in offline mode: only what was downloaded before can be loaded."
    if cause.kind == "local-only" and seen:
        return "`local_files_only=True` was passed on: only what was downloaded before can be loaded."
    if cause.kind == "local-only":
        return "`local_files_only=True` or offline mode: only what was downloaded before can be loaded."
    if cause.kind == "status":
        return "Something answered, but not with the file: the Hub in trouble, a mirror, or a gateway on the way."
    if cause.kind == "tls" and PLAIN.search(cause.quote):
        return REMEDIES["plain"]
    return REMEDIES.get(cause.kind, "The text does not say what stopped the connection.")
