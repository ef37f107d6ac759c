"""The call in a cell that led to `generate`, and the settings that it went with."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.source import MOST_WRITTEN
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._module_calls import innermost_cell
from tfdiag_ipython.probes.model_call import is_model

SETTINGS = (
    "temperature",
    "repetition_penalty",
    "top_k",
    "top_p",
    "max_length",
    "max_new_tokens",
    "num_beams",
    "num_return_sequences",
    "do_sample",
    "no_repeat_ngram_size",
    "penalty_alpha",
)
_POSITIONS = ("max_position_embeddings", "n_positions")


class GenerationCallProbe(Probe):
    """The frames from the last cell's down to the check that refused a setting.

    Facts: ``model`` (class; empty where none is in the traceback), ``called`` (what the cell calls: ``model.generate``, ``pipe``), ``written`` (that call), ``opaque`` (it spreads settings
    that a function was given or made), ``keywords``
    (name → source of the arguments in that call), ``refused`` (setting → class and printed value, of the check's own frame), ``settings`` (plain
    values of the generation configuration that was checked), ``positions`` (places that the model has; 0: not known).
    """

    name: ClassVar[str] = "generation-call"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        own = innermost_cell(scene.exception)
        below = False
        refused: dict[str, tuple[str, str]] = {}
        configuration: Any = None
        model: Any = None
        trace = scene.exception.__traceback__ if scene.exception is not None else None
        while trace is not None:
            code = trace.tb_frame.f_code
            file = code.co_filename.replace("\\", "/")
            if "/transformers/generation/" in file:
                below, names = True, trace.tb_frame.f_locals
                found = names.get("self")
                model = found if is_model(found) else model
                configuration = names.get("generation_config") or configuration
                if file.endswith("configuration_utils.py") and type(found).__name__.endswith("GenerationConfig"):
                    configuration = found
                if file.endswith("logits_process.py") and code.co_name == "__init__":
                    refused = {
                        name: (type(value).__name__, str(value)[:20])
                        for name, value in names.items()
                        if type(value) in (int, float, str) or type(value).__module__ in ("numpy", "torch")
                    }
            trace = trace.tb_next
        if not below or own is None:
            return Evidence(missing="no cell's call of generate() is in this traceback")
        scene.deadline.check()
        call = _call(own)
        held = getattr(configuration, "__dict__", {})
        settings = {name: held[name] for name in SETTINGS if type(held.get(name)) in (int, float, bool)}
        config = getattr(getattr(model, "config", None), "__dict__", {})
        places = [config[name] for name in _POSITIONS if type(config.get(name)) is int]
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg} if call is not None else {}
        facts = {
            "model": type(model).__name__ if model is not None else "",
            "called": ast.unparse(call.func) if call is not None else "",
            "written": ast.unparse(call)[:MOST_WRITTEN] if call is not None else "",
            "opaque": call is not None and _opaque(call, own),
            "keywords": keywords,
            "refused": refused,
            "settings": settings,
            "positions": min(places) if places else 0,
        }
        told = ", ".join(f"{name}={value}" for name, value in settings.items()) or "none"
        return Evidence(MappingProxyType(facts), (Observation("settings of generate()", told, _where(facts)),))


def _call(trace: TracebackType) -> ast.Call | None:
    """The call in this frame of the cell; before Python 3.11, where its statement has several, the one of `generate` or with settings."""
    calls = calls_at(trace)
    if len(calls) < 2:
        return calls[0] if calls else None
    generates = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "generate"]
    sets = [call for call in calls if {word.arg for word in call.keywords} & set(SETTINGS)]
    found = generates or sets
    return found[0] if len(found) == 1 else None


def _opaque(call: ast.Call, own: TracebackType) -> bool:
    """Whether it spreads what is no dictionary of the notebook's by name: which settings that holds, an edit of the call cannot know."""
    frame = own.tb_frame
    local = frame.f_locals if frame.f_locals is not frame.f_globals else {}
    spread = [word.value for word in call.keywords if word.arg is None]
    return any(not isinstance(one, ast.Name) or one.id in local for one in spread)


def _where(facts: Mapping[str, Any]) -> str:
    return f"`{facts['called']}`" if facts["called"] else "the frame of generate()"
