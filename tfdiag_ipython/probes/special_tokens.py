"""Which tokens a model is told to begin with, to fill up with and to end with, and which its tokenizer and its kind would have."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes.index_tensors import only_model, tokenizer_of

NAMES = ("decoder_start_token_id", "pad_token_id", "eos_token_id", "bos_token_id")
_TOKENS = ("pad_token_id", "eos_token_id", "bos_token_id", "cls_token_id")


class SpecialTokensProbe(Probe):
    """The special tokens of the failing model, or of the notebook's only one.

    Facts: ``model``, ``tokenizer`` (names, empty where there is none or several), ``model_type``, ``decodes`` (it is an encoder-decoder),
    ``rows`` (of the vocabulary that the ids come from; 0 where that is not said), ``config`` (ids by name, ``None`` where it has none), ``generation`` (what
    ``generate`` was running with; empty when it was not), ``defaults`` (those of the configuration's class) and ``tokens`` (the tokenizer's ids).
    """

    name: ClassVar[str] = "special-tokens"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence()
        frames = list(scene.frames)
        scene.deadline.check()
        model = _model(frames, torch) or only_model(scene.namespace, torch)
        config: Any = vars(model).get("config") if model is not None else None
        if not any(base.__module__.startswith("transformers.") for base in type(config).__mro__):
            return Evidence()
        named = {**tokenizer_of(scene.namespace)}
        held = list(scene.namespace.items())
        name = next((name for name, value in held if value is model and not name.startswith("_")), "")
        words = (getattr(one, "vocab_size", None) for one in (config, getattr(config, "decoder", None)))
        facts = {
            "model": name,
            "model_type": str(getattr(config, "model_type", "")),
            "decodes": bool(getattr(config, "is_encoder_decoder", False)),
            "rows": next((count for count in words if _is_id(count)), 0),
            "config": _ids(config, NAMES),
            "generation": _generation(frames),
            "defaults": _defaults(type(config)),
            "tokenizer": named["tokenizer"],
            "tokens": _ids(scene.namespace.get(named["tokenizer"]), _TOKENS),
        }
        return Evidence(MappingProxyType(facts), _observations(facts))


def _model(frames: list[LiveFrame], torch: Any) -> Any:
    """The outermost model that a method of was running."""
    held = (frame.locals.get("self") for frame in frames)
    modules = (one for one in held if issubclass(type(one), torch.nn.Module))
    return next((one for one in modules if "config" in vars(one)), None)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(holder: Any, names: tuple[str, ...]) -> dict[str, int | None]:
    """Ids by name; of several (an end-of-sequence token may be a list) none is named."""
    found = {name: getattr(holder, name, None) for name in names}
    return {name: value if _is_id(value) else None for name, value in found.items()}


def _generation(frames: list[LiveFrame]) -> dict[str, int | None]:
    """The ids that ``generate`` was running with."""
    for frame in frames:
        if frame.function == "generate" and frame.file.replace("\\", "/").endswith("generation/utils.py"):
            settings = frame.locals.get("generation_config")
            return _ids(
                settings if settings is not None else getattr(frame.locals.get("self"), "generation_config", None),
                NAMES,
            )
    return {}


def _defaults(kind: type) -> dict[str, int | None]:
    try:
        known = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    except (TypeError, ValueError):
        return dict.fromkeys(NAMES)
    found = {name: known[name].default if name in known else None for name in NAMES}
    return {name: value if _is_id(value) else None for name, value in found.items()}


def _observations(facts: dict[str, Any]) -> tuple[Observation, ...]:
    model = facts["model"] or "model"
    seen = [
        Observation(f"{model}.{holder}.{name}", str(facts[key][name]), "the model")
        for key, holder in (("config", "config"), ("generation", "generation_config"))
        for name in NAMES[:2]
        if facts[key]
    ]
    found = ((name, value) for name, value in facts["tokens"].items() if value is not None)
    seen += [Observation(f"{facts['tokenizer']}.{name}", str(value), "the tokenizer") for name, value in found]
    return tuple(seen)
