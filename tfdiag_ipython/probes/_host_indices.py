"""Index tensors in host memory: their values against a limit, and what the notebook calls them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tfdiag_ipython.probe import Scene

MOST_ELEMENTS = 20_000_000
"""Index tensors larger than this are not read: a quick look must stay quick."""
MOST_LISTED = 1_000_000
"""Lists of labels longer than this are not read, for the same reason."""


def indices_of(tensor: Any, limit: int, ignored: int | None, torch: Any, low: int = 0) -> dict[str, Any]:
    """The range of an index tensor on the host and its first value that is not among ``low`` to ``limit - 1``."""
    facts: dict[str, Any] = {
        "device": str(tensor.device),
        "shape": tuple(int(size) for size in tensor.shape),
        "tensor": tensor,
    }
    readable = tensor.device.type == "cpu" and 0 < tensor.numel() <= MOST_ELEMENTS
    if not readable or tensor.is_floating_point() or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return facts
    with torch.no_grad():
        flat = tensor.reshape(-1)
        kept = flat if ignored is None else flat[flat != ignored]
        wrong = (flat < low) | (flat >= limit)
        if ignored is not None:
            wrong &= flat != ignored
        count = int(torch.count_nonzero(wrong))
        facts["values"] = {"smallest": int(kept.min()), "largest": int(kept.max())} if kept.numel() else {}
        if count:
            first = int(wrong.byte().argmax())  # of several largest ones it gives the first
            facts["values"] |= {
                "first": int(flat[first]),
                "place": _unravel(first, facts["shape"]),
                "count": count,
                "total": int(kept.numel()),
            }
    return facts


def _unravel(index: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    place: list[int] = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        place.insert(0, rest)
    return tuple(place)


def _flat(place: tuple[int, ...], shape: tuple[int, ...]) -> int:
    index = 0
    for here, size in zip(place, shape, strict=True):
        index = index * size + here
    return index


def on_host(scene: Scene, facts: Mapping[str, Any], model: Any, torch: Any) -> dict[str, Any]:
    """Labels or token ids that the notebook still has in host memory and that are out of range; empty when there are none."""
    config = facts["config"]
    classes = _classes(model, config, torch) if "Classification" in type(model).__name__ else (0, "")
    words = (config.get("vocab_size", 0), "config.vocab_size")
    if facts["kind"] == "target":
        told = classes if classes[0] == facts["limit"] else (facts["limit"], "")
        limits = {"label": told}
    elif facts["kind"] == "embedding":
        limits = {"id": words} if facts["role"] == "tokens" and words[0] == facts["limit"] else {}
    else:
        limits = {"label": classes, "id": words}
    for name, value in _named_indices(scene.namespace, torch):
        scene.deadline.check()
        kind = "id" if re.search(r"input_ids\b", name) else "label"
        limit, origin = limits.get(kind, (0, ""))
        if limit < 2:  # one class is a regression: its labels are no indices
            continue
        tensor = torch.tensor(value, device="cpu") if isinstance(value, list) else value
        values = (
            indices_of(tensor, limit, facts.get("ignore_index", -100) if kind == "label" else None, torch).get("values")
            or {}
        )
        if "first" in values:
            return {"variable": name, "kind": kind, "limit": limit, "origin": origin, "values": values}
    return {}


def _classes(model: Any, config: Mapping[str, Any], torch: Any) -> tuple[int, str]:
    """How many classes a classifier has, and what says so: its last layer, where the configuration was not changed with it."""
    told = int(config.get("num_labels", 0))
    body = f"{getattr(type(model), 'base_model_prefix', '')}."
    layers = [
        (name, int(module.weight.shape[0]))  # a shape can be read when the device is dead
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear and not name.startswith(body)
    ]
    name, size = layers[-1] if layers else ("", told)
    return (told, "config.num_labels") if size == told else (size, f"{name}.out_features")


def _named_indices(namespace: Mapping[str, Any], torch: Any) -> Iterator[tuple[str, Any]]:
    """The notebook's integer tensors on the host and lists of integers that are called labels, targets or ``input_ids``."""

    def indices(name: str, value: Any) -> bool:
        if not re.search(r"(?:label|target)s?\b|input_ids\b|^y(?:_\w+)?$", name, re.IGNORECASE):
            return False
        if type(value) is torch.Tensor:
            return value.device.type == "cpu" and not value.is_floating_point() and not value.is_complex()
        return type(value) is list and 0 < len(value) <= MOST_LISTED and all(type(one) is int for one in value)

    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        if indices(name, value):
            yield name, value
        for key, part in _fields(value):
            if indices(key, part):
                yield f'{name}["{key}"]', part


def _fields(value: Any) -> list[tuple[str, Any]]:
    """Named members of a dictionary or a tokenizer's batch; other objects are not asked: their attributes may do anything."""
    inner = vars(value).get("data") if is_batch(type(value)) else value if type(value) is dict else None
    return (
        [(key, part) for key, part in list(inner.items())[:50] if isinstance(key, str)] if type(inner) is dict else []
    )


def is_batch(kind: type) -> bool:
    """A tokenizer's output, which is a mapping only through its member ``data``."""
    return kind.__name__ in {"BatchEncoding", "BatchFeature"} and kind.__module__.startswith("transformers.")


def variable_of(namespace: Mapping[str, Any], tensor: Any, torch: Any) -> str:
    """The notebook's name of the index tensor, or of the tensor that it is a view of."""
    if tensor is None or tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        return ""
    pointer = tensor.untyped_storage().data_ptr()

    return next(
        (name for name, value in _host_tensors(namespace, torch) if value.untyped_storage().data_ptr() == pointer), ""
    )


def copied_from(scene: Scene, facts: Mapping[str, Any], torch: Any) -> str:
    """The host tensor that an index tensor on a device was copied from: the one whose size and bad values are the same."""
    seen = facts.get("values") or {}
    if "first" not in seen or facts.get("device", "cpu") == "cpu":
        return ""
    size = math.prod(facts["shape"])
    for name, value in _host_tensors(scene.namespace, torch):
        scene.deadline.check()
        if value.numel() != size or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            continue
        found = indices_of(value, facts["limit"], facts.get("ignore_index"), torch).get("values") or {}
        if "first" in found and {**found, "place": _flat(found["place"], tuple(value.shape))} == {
            **seen,
            "place": _flat(seen["place"], facts["shape"]),
        }:
            return name
    return ""


def _host_tensors(namespace: Mapping[str, Any], torch: Any) -> Iterator[tuple[str, Any]]:
    """The notebook's tensors in host memory, those in dictionaries and batches included."""

    def readable(value: Any) -> bool:
        return type(value) is torch.Tensor and value.device.type == "cpu" and value.layout is torch.strided

    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        if readable(value):
            yield name, value
        yield from ((f'{name}["{key}"]', part) for key, part in _fields(value) if readable(part))
