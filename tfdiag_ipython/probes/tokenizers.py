"""The notebook's tokenizers and models, by name: which special tokens they have and which they lack."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene


class TokenizersProbe(Probe):
    """The tokenizer and the model of the failing call, or else the only ones in the notebook.

    Facts: ``tokenizer``, ``model`` (names, empty where there are several or none), ``pad``, ``eos`` (the tokenizer's tokens or ``None``),
    ``any`` (variables hold a tokenizer), ``has_model`` (there is one to look at, by whatever name), ``model_pad``, ``model_eos`` (ids in its configuration or ``None``).
    """

    name: ClassVar[str] = "tokenizers"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        tokenizer_name, tokenizer = _pick(scene, "PreTrainedTokenizerBase")
        model_name, model = _pick(scene, "PreTrainedModel")
        config = getattr(model, "config", None)
        facts = {
            "tokenizer": tokenizer_name,
            "any": tokenizer is not None
            or any(_is(value, "PreTrainedTokenizerBase") for value in list(scene.namespace.values())),
            "pad": getattr(tokenizer, "pad_token", None),
            "eos": getattr(tokenizer, "eos_token", None),
            "model": model_name,
            "has_model": model is not None,
            "model_pad": getattr(config, "pad_token_id", None),
            "model_eos": getattr(config, "eos_token_id", None),
        }
        seen = []
        if tokenizer is not None:
            seen += [
                Observation(f"{tokenizer_name or 'tokenizer'}.{key}_token", str(facts[key]), "the tokenizer")
                for key in ("pad", "eos")
            ]
        if model is not None:
            seen.append(
                Observation(f"{model_name or 'model'}.config.pad_token_id", str(facts["model_pad"]), "the model")
            )
        return Evidence(MappingProxyType(facts), tuple(seen))


def _pick(scene: Scene, base: str) -> tuple[str, Any]:
    """The object of this kind whose method failed, with its name; else the only one of the notebook."""
    failed = next((value for frame in scene.frames if _is(value := frame.locals.get("self"), base)), None)
    named: Mapping[str, Any] = {
        name: value for name, value in list(scene.namespace.items()) if not name.startswith("_") and _is(value, base)
    }
    if failed is not None:
        return next((name for name, value in named.items() if value is failed), ""), failed
    return next(iter(named.items())) if len(named) == 1 else ("", None)


def _is(value: Any, base: str) -> bool:
    return any(kind.__name__ == base for kind in type(value).__mro__)
