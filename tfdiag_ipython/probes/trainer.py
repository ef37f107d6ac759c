"""The Trainer at work when it failed: its model's signature, the columns of its data set, and the batch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._host_indices import is_batch
from tfdiag_ipython.probes._module_calls import name_of
from tfdiag_ipython.probes.auto_classes import accepting_classes
from tfdiag_ipython.probes.model_call import is_tokenizer

FILE = "transformers/trainer.py"
MOST_COLUMNS = 40


class TrainerProbe(Probe):
    """The Trainer whose method failed; nothing is called of the person's, and no row is read but of plain lists.

    Facts: ``trainer`` (its class), ``model`` (the model's class), ``own`` (it is not of Transformers), ``wrapper`` (the class that wraps it, such as ``DataParallel``), ``parameters`` (of the
    ``forward`` that Trainer inspects), ``anything`` (that ``forward`` names no inputs, but takes ``*args, **kwargs``), ``labels`` (the label names that
    Trainer looks for), ``dataset`` (its name in the notebook), ``dataset_kind`` (``table`` for ``datasets.Dataset``, ``rows`` for a list of
    dictionaries, else ``own``), ``dataset_class``, ``columns`` (name → ``text``,
    ``integer``, ``float``, ``list`` or ``other``), ``also_evaluated`` (the evaluation's data set is of the same kind and columns), ``evaluated_columns``, ``splits`` (names of several data sets for
    evaluation), ``measures`` (the name of `compute_metrics`), ``kept`` (plain attributes
    of an own data set: name → kind of its values), ``batch`` (the keys that reached the model; ``None`` where no frame shows them), ``collator``,
    ``own_collator``, ``removes`` (``remove_unused_columns``), ``tokenizer`` (the name in the notebook of its tokenizer, or of the only one there), ``pads`` and ``masks`` (it has a
    padding and a mask token), ``heads`` (auto class → class for this model type).
    """

    name: ClassVar[str] = "trainer"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        trainer = trainer_of(scene)
        if trainer is None:
            return Evidence(missing="no Trainer is at work in this traceback")
        held = vars(trainer)
        model, wrapper = _inner(held.get("model"))
        try:
            parameters = inspect.signature(type(model).forward).parameters
        except (AttributeError, TypeError, ValueError):
            return Evidence(missing="the model does not tell the parameters of its `forward`")
        named = tuple(name for name, one in parameters.items() if name != "self" and one.kind.name[:4] != "VAR_")
        dataset, collator, args = held.get("train_dataset"), held.get("data_collator"), held.get("args")
        evaluated, measure = held.get("eval_dataset"), held.get("compute_metrics")
        scene.deadline.check()
        kind, columns = columns_of(dataset)
        tokenizer = held.get("processing_class", held.get("tokenizer")) or _only_tokenizer(scene)
        config = vars(model).get("config") if hasattr(model, "__dict__") else None
        labels = held.get("label_names")
        facts: dict[str, Any] = {
            "trainer": type(trainer).__name__,
            "model": type(model).__name__,
            "own": not type(model).__module__.startswith("transformers."),
            "wrapper": wrapper,
            "parameters": named,
            "anything": not named,
            "labels": tuple(map(str, labels)) if isinstance(labels, (list, tuple)) else (),
            "dataset": name_of(dataset, scene),
            "dataset_kind": kind,
            "dataset_class": type(dataset).__name__,
            "columns": columns,
            "also_evaluated": evaluated is not None and columns_of(evaluated) == (kind, columns),
            "measures": getattr(measure, "__name__", type(measure).__name__) if measure is not None else "",
            "splits": tuple(map(str, evaluated)) if type(evaluated).__name__ in ("dict", "DatasetDict") else (),
            "evaluated_columns": columns_of(evaluated)[1],
            "kept": kept_by(dataset) if kind == "own" else {},
            "batch": _batch(scene),
            "collator": getattr(collator, "__name__", "") or type(collator).__name__,
            "own_collator": not str(getattr(collator, "__module__", "")).startswith("transformers."),
            "removes": bool(vars(args).get("remove_unused_columns", True)) if hasattr(args, "__dict__") else True,
            "tokenizer": name_of(tokenizer, scene),
            "pads": _has(tokenizer, "pad_token"),
            "masks": _has(tokenizer, "mask_token"),
            "heads": accepting_classes(scene, str(getattr(type(config), "model_type", "") or "")),
        }
        return Evidence(MappingProxyType(facts), tuple(_seen(facts)))


def _seen(facts: Mapping[str, Any]) -> list[Observation]:
    wrapped = f", wrapped in {facts['wrapper']}" if facts["wrapper"] else ""
    takes = ", ".join(facts["parameters"][:12]) + (", …" if len(facts["parameters"]) > 12 else "")
    seen = [Observation("The model takes", takes or "*args, **kwargs", f"{facts['model']}.forward{wrapped}")]
    if facts["columns"]:
        listed = ", ".join(f"{name} ({kind})" for name, kind in facts["columns"].items())
        seen.append(Observation("The data set's columns", listed, facts["dataset"] or "trainer.train_dataset"))
    if facts["batch"] is not None:
        seen.append(Observation("The batch held", ", ".join(facts["batch"]) or "nothing", f"from {facts['collator']}"))
    return seen


def trainer_of(scene: Scene) -> Any:
    """The Trainer in the innermost frame of one; ``None`` where none is at work."""
    for frame in scene.find_frames(file=FILE):
        held = frame.locals.get("self")
        if any(f"{base.__module__}.{base.__name__}" == "transformers.trainer.Trainer" for base in type(held).__mro__):
            return held
    return None


def columns_of(dataset: Any) -> tuple[str, dict[str, str]]:
    """How a data set holds its rows, and its columns with the kind of their values, without running code of the person's."""
    if type(dataset) in (list, tuple):
        first = dataset[0] if dataset else None
        fields = vars(first).get("data") if is_batch(type(first)) else first
        if type(fields) is dict:
            named = [(name, value) for name, value in fields.items() if isinstance(name, str)]
            return "rows", {name: kind_of(value) for name, value in named[:MOST_COLUMNS]}
        return "own", {}
    if type(dataset).__module__.split(".")[0] == "datasets":
        try:
            names, features = list(dataset.column_names or ()), dataset.features
        except Exception:  # a stream may not know them
            return "table", {}
        known = features if isinstance(features, Mapping) else {}
        return "table", {str(name): _feature(known.get(name)) for name in names[:MOST_COLUMNS]}
    return "own", {}


def kept_by(dataset: Any) -> dict[str, str]:
    """The lists that an own data set keeps as attributes, with the kind of their values."""
    fields = vars(dataset) if hasattr(type(dataset), "__dict__") and hasattr(dataset, "__dict__") else {}
    found = {}
    for name, value in list(fields.items())[:MOST_COLUMNS]:
        if type(value) in (list, tuple) and value:
            found[name] = kind_of(value[0])
        elif type(value).__module__.split(".")[0] in ("torch", "numpy", "pandas"):
            found[name] = kind_of(value)
    return found


def kind_of(value: Any) -> str:
    """``text``, ``integer``, ``float``, ``list`` (of anything, or an array) or ``other``."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    if type(value) in (list, tuple) or type(value).__module__.split(".")[0] in ("torch", "numpy", "pandas"):
        return "list"
    return "other"


def _feature(feature: Any) -> str:
    dtype = str(getattr(feature, "dtype", ""))
    if type(feature).__name__ == "ClassLabel":
        return "integer"
    if type(feature).__name__ != "Value":
        return "list" if type(feature).__name__ in ("Sequence", "List", "LargeList", "list") else "other"
    starts = {"string": "text", "large_string": "text", "int": "integer", "uint": "integer", "bool": "integer"}
    starts |= {"float": "float", "double": "float"}
    return next((kind for start, kind in starts.items() if dtype.startswith(start)), "other")


def _inner(model: Any) -> tuple[Any, str]:
    """The model that Trainer asks for its signature, and the class that hides it; of PEFT's wrappers the model inside."""
    kind = type(model)
    if kind.__module__.startswith("peft."):
        inner: Any = vars(model).get("_modules", {}).get("base_model")
        inner = vars(inner).get("_modules", {}).get("model") if inner is not None else None
        return (inner, "") if inner is not None else (model, "")
    if kind.__name__ in ("DataParallel", "DistributedDataParallel") and kind.__module__.startswith("torch."):
        return model, kind.__name__
    return model, ""


def _batch(scene: Scene) -> tuple[str, ...] | None:
    for frame in scene.find_frames("compute_loss", "_prepare_inputs", file=FILE):
        inputs = frame.locals.get("inputs")
        fields = vars(inputs).get("data") if is_batch(type(inputs)) else inputs
        if isinstance(fields, dict):
            return tuple(str(name) for name in fields if name != "num_items_in_batch")  # Trainer's own
    return None


def _only_tokenizer(scene: Scene) -> Any:
    """The one tokenizer of the notebook; ``None`` where there are several."""
    found = {id(value): value for value in list(scene.namespace.values()) if is_tokenizer(value)}
    return next(iter(found.values())) if len(found) == 1 else None


def _has(tokenizer: Any, token: str) -> bool:
    if not type(tokenizer).__module__.startswith("transformers."):
        return False
    try:
        return getattr(tokenizer, token, None) is not None
    except Exception:
        return False
