"""Which auto classes of the installed transformers accept a configuration (their mappings, read without importing models)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

MODULE = "transformers.models.auto.modeling_auto"


class AutoClassesProbe(Probe):
    """The configuration given to an auto class, and the auto classes that accept its model type.

    Facts: ``model_type``, ``architectures``, ``wanted`` (the auto class called), ``accepting`` (auto class → model class),
    ``checkpoint`` (the name or path given, empty when the class was built ``from_config``), ``remote`` (auto classes of its
    ``auto_map``). Source: ``_model_mapping._model_mapping`` of each ``Auto*`` class (transformers 4.57 and 5.23).
    """

    name: ClassVar[str] = "auto-classes"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frames = scene.find_frames("from_pretrained", "from_config", file="models/auto/auto_factory.py")
        if not frames:
            return Evidence(missing="no frame of an auto class is left in this traceback")
        values = frames[0].locals
        config, wanted = values.get("config"), values.get("cls")
        model_type = str(getattr(config, "model_type", "") or "")
        accepting = accepting_classes(scene, model_type)
        architectures = tuple(str(name) for name in getattr(config, "architectures", None) or ())
        remote = getattr(config, "auto_map", None)
        facts = {
            "model_type": model_type,
            "config_class": type(config).__name__,
            "architectures": architectures,
            "wanted": getattr(wanted, "__name__", ""),
            "accepting": accepting,
            "checkpoint": str(values.get("pretrained_model_name_or_path") or ""),
            "remote": tuple(remote) if isinstance(remote, Mapping) else (),
        }
        where = f"frame `{frames[0].function}` of {facts['wanted']}"
        seen = [Observation("config.model_type", model_type or "(none)", where)]
        if architectures:
            seen.append(Observation("config.architectures", ", ".join(architectures), where))
        names = ", ".join(accepting) or "none"
        seen.append(
            Observation(
                "Auto classes that accept it", names, f"transformers {failure.versions.get('transformers', '')}"
            )
        )
        return Evidence(MappingProxyType(facts), tuple(seen))


def accepting_classes(scene: Scene, model_type: str) -> dict[str, str]:
    """Auto class → model class for a model type, in the loaded transformers; PyTorch classes only."""
    module: Any = scene.module(MODULE)
    if module is None or not model_type:
        return {}
    found: dict[str, str] = {}
    for name, kind in vars(module).items():
        mapping = getattr(getattr(kind, "_model_mapping", None), "_model_mapping", None)
        if not name.startswith("Auto") or not isinstance(mapping, Mapping):
            continue
        target = mapping.get(model_type)
        if target:
            found[name] = target if isinstance(target, str) else str(target[0])
    return found


def model_type_of(scene: Scene, architecture: str) -> str:
    """The model type whose classes include this one, in the loaded transformers; empty where there is none."""
    module: Any = scene.module(MODULE)
    for name, kind in list(vars(module).items()) if module is not None else ():
        mapping = getattr(getattr(kind, "_model_mapping", None), "_model_mapping", None)
        if name.startswith("Auto") and isinstance(mapping, Mapping):
            for model_type, target in mapping.items():
                if architecture == target or (isinstance(target, tuple) and architecture in target):
                    return str(model_type)
    return ""
