"""Which class would generate with the configuration of a model that has no ``generate``."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.auto_classes import accepting_classes

WRITERS = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForCausalLM",
)
"""Auto classes whose models generate. Of a model type in several, the whole model stands before its decoder alone."""


class ModelHeadProbe(Probe):
    """The model of the ``AttributeError`` and the maps of the auto classes; nothing is asked of the model.

    Facts: ``kind`` (the model's class), ``model_type``, ``own`` (the class is not of Transformers), ``auto`` and ``target`` (auto class and
    class that generate for this model type; empty where there is none), ``encoder`` (it fills in masks and is not set up as a
    decoder), ``written`` (the name in the cells by which the model was made, empty where there is none).
    """

    name: ClassVar[str] = "model-head"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        error = scene.exception
        owner = getattr(error, "obj", None)
        bases = type.mro(type(owner))
        if not isinstance(error, AttributeError) or not any(
            f"{base.__module__}.{base.__name__}" == "transformers.modeling_utils.PreTrainedModel" for base in bases
        ):
            return Evidence(missing="the object is no model of Transformers")
        config: Any = object.__getattribute__(owner, "__dict__").get("config")
        kind = bases[0]
        model_type = str(getattr(type(config), "model_type", "") or "")
        accepting = accepting_classes(scene, model_type)
        scene.deadline.check()
        auto = next((name for name in WRITERS if name in accepting), "")
        set_up = vars(config).get("is_decoder") if hasattr(config, "__dict__") else False
        facts = {
            "kind": kind.__name__,
            "model_type": model_type,
            "own": not kind.__module__.startswith("transformers."),
            "auto": auto,
            "target": accepting.get(auto, ""),
            "encoder": "AutoModelForMaskedLM" in accepting and auto in ("", WRITERS[-1]) and not set_up,
            "written": _written(
                scene, kind.__name__, [name for name, other in accepting.items() if other == kind.__name__]
            ),
        }
        seen = [Observation("The model", f"{kind.__name__} (model type `{model_type}`)", "the object of the error")]
        if auto:
            seen.append(Observation(auto, accepting[auto], "its map of model types"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _written(scene: Scene, kind: str, autos: list[str]) -> str:
    """The newest cell that names the class, or an auto class that gives it, tells how the model was made."""
    for cell in reversed(scene.cells):
        for name in (kind, *autos):
            if re.search(rf"\b{name}\b", cell.source):
                return name
    return ""
