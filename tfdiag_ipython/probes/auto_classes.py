"""Which auto classes of the installed transformers accept a configuration (their mappings, read without importing models)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene

MODULE = "transformers.models.auto.modeling_auto"


class AutoClassesProbe(Probe):
    """The configuration given to an auto class, and the auto classes that accept its model type.

    Facts: ``model_type``, ``config_class``, ``architectures``, ``wanted`` (the auto class called), ``accepting`` (auto class → model
    class; for a configuration class of the checkpoint's own code what its ``auto_map`` registers), ``checkpoint`` (the name or path
    given, empty when the class was built ``from_config``), ``own_code`` (the configuration class is the checkpoint's own), ``task``
    (asked of ``pipeline``, else empty), ``tasks`` (auto class → pipeline task). Source: ``_model_mapping._model_mapping`` of each ``Auto*``
    class and ``pipelines.SUPPORTED_TASKS`` (transformers 4.57 and 5.23).
    """

    name: ClassVar[str] = "auto-classes"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frame = _frame(scene)
        if frame is None:
            return Evidence(missing="no frame of an auto class is left in this traceback")
        values = frame.locals
        config, wanted = values.get("config"), values.get("cls")
        told = failure.says(r"for this kind of \w+: (Auto\w+)")
        model_type = str(getattr(config, "model_type", "") or "")
        own_code = type(config).__module__.startswith("transformers_modules")
        remote = getattr(config, "auto_map", None)
        accepting = accepting_classes(scene, model_type) if not own_code else {}
        if own_code and isinstance(remote, Mapping):
            accepting = {str(k): str(v).rpartition(".")[2] for k, v in remote.items() if str(k).startswith("AutoModel")}
        architectures = tuple(str(name) for name in getattr(config, "architectures", None) or ())
        task = _task(scene)
        facts = {
            "model_type": model_type,
            "config_class": type(config).__name__,
            "architectures": architectures,
            "wanted": wanted.__name__ if isinstance(wanted, type) else told[1] if told else "",
            "accepting": accepting,
            "checkpoint": str(values.get("pretrained_model_name_or_path") or ""),
            "own_code": own_code,
            "task": task,
            "tasks": _tasks(scene) if task else {},
        }
        where = f"frame `{frame.function}` of {facts['wanted'] or 'transformers'}"
        seen = [Observation("config.model_type", model_type or "(none)", where)]
        if architectures:
            seen.append(Observation("config.architectures", ", ".join(architectures), where))
        names = ", ".join(accepting) or "none"
        source = "config.auto_map" if own_code else f"transformers {failure.versions.get('transformers', '')}"
        seen.append(Observation("Auto classes that accept it", names, source))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _frame(scene: Scene) -> LiveFrame | None:
    """The innermost frame of an auto class, a pipeline's loader or AutoTokenizer that holds a configuration."""
    places = (
        ("models/auto/auto_factory.py", ("from_pretrained", "from_config")),
        ("pipelines/base.py", ("load_model", "infer_framework_load_model")),
        ("models/auto/tokenization_auto.py", ("from_pretrained",)),
    )
    for file, functions in places:
        for frame in scene.find_frames(*functions, file=file):
            if hasattr(type(frame.locals.get("config")), "model_type"):
                return frame
    return None


def _task(scene: Scene) -> str:
    frames = scene.find_frames("pipeline", file="pipelines/__init__.py")
    task = frames[-1].locals.get("task") if frames else None
    return task if isinstance(task, str) else ""


def _tasks(scene: Scene) -> dict[str, str]:
    """Auto class → the first pipeline task that uses it."""
    supported = getattr(scene.module("transformers.pipelines"), "SUPPORTED_TASKS", None)
    found: dict[str, str] = {}
    for task, entry in supported.items() if isinstance(supported, Mapping) else ():
        for kind in entry.get("pt", ()) if isinstance(entry, Mapping) else ():
            if isinstance(kind, type):
                found.setdefault(kind.__name__, str(task))
    return found


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
