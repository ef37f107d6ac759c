"""The tensor whose values are out of range: found in the frames of the failing call, with the limit and where that comes from.

Source: ``torch/nn/functional.py`` (``embedding``: ``input``, ``weight``; ``cross_entropy`` and ``nll_loss``: ``input``, ``target``,
``ignore_index``) and ``torch/nn/modules/sparse.py`` of torch 2.13. CUDA tensors are never read: after a device-side assert that would
fail, and before it would wait for the device; of them only shapes are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes._host_indices import copied_from, indices_of, on_host, variable_of
from tfdiag_ipython.probes._positions import NAMES, asked

_RELEVANT = {
    "tokens": ("vocab_size",),
    "token types": ("type_vocab_size",),
    "positions": ("max_position_embeddings",),
    "target": ("num_labels",),
    "none": ("max_position_embeddings", "pad_token_id"),
}
"""The numbers of the configuration that a person needs, by what was indexed."""
LIMITS = ("num_labels", "vocab_size", "max_position_embeddings", "type_vocab_size", "pad_token_id", "model_type")


class IndexTensorsProbe(Probe):
    """The indices, their limit, and the objects that both come from.

    Facts: ``kind`` (``embedding``, ``target`` or ``none``), ``values`` (``smallest``, ``largest``, ``first`` (value), ``place``, ``count``,
    ``total``; absent for a CUDA tensor), ``limit``, ``module`` (dotted name in the model), ``role`` (``tokens``, ``positions``,
    ``token types`` or empty), ``config`` (the model's numbers), ``model``, ``tokenizer``, ``variable`` (names in the notebook),
    ``cuda`` (whether this process uses CUDA), ``tokenizer_length``, ``length`` (tokens per row of ``input_ids``), ``positions`` (see
    ``_positions.asked``), ``ignore_index``, ``device``. After a device-side assert also ``host``, when indices in host memory are out of range: ``variable``, ``kind`` (``label`` or ``id``), ``limit``, ``origin`` and ``values``.
    """

    name: ClassVar[str] = "index-tensors"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        frames = list(scene.frames)
        scene.deadline.check()
        model = _model(frames, torch)
        facts = _call(frames, torch, model)
        asserted = failure.says("device-side assert") is not None
        if model is None and asserted:  # the traceback may end at an innocent line outside the model
            model = only_model(scene.namespace, torch)
        facts["config"] = _numbers(vars(model).get("config")) if model is not None else {}
        facts["cuda"] = bool(torch.cuda.is_initialized())
        places = facts["positions"] = asked(frames, model, torch)
        facts["length"] = places["length"] if places.get("argument") == "input_ids" else _length(frames, torch)
        facts["model"] = _name_of(scene.namespace, lambda value: value is model) if model is not None else ""
        facts.update(tokenizer_of(scene.namespace))
        if "values" not in facts and facts["kind"] != "none":
            facts |= _guarded(scene.exception)
        tensor = facts.pop("tensor", None)
        facts["variable"] = variable_of(scene.namespace, tensor, torch) or copied_from(scene, facts, torch)
        if asserted and "values" not in facts:
            scene.deadline.check()
            facts["host"] = on_host(scene, facts, model, torch)
        return Evidence(MappingProxyType(facts), _observations(facts))


def _call(frames: list[LiveFrame], torch: Any, model: Any) -> dict[str, Any]:
    """What the failing functional call was given; ``tensor`` is the index tensor itself, for the caller alone."""
    for frame in reversed(frames):
        if not frame.file.replace("\\", "/").endswith("torch/nn/functional.py"):
            continue
        values = frame.locals
        if frame.function in {"embedding", "embedding_bag"} and _is(values.get("input"), torch.Tensor):
            module, role = _embedding_module(frames, torch, model, values["weight"])
            limit = int(values["weight"].shape[0])
            found = {"kind": "embedding", "limit": limit, "module": module, "role": role, "where": _where(frame)}
            return found | indices_of(_as_given(frames, values["input"], torch), limit, None, torch)
        if frame.function in {"cross_entropy", "nll_loss"} and _is(values.get("target"), torch.Tensor):
            scores, ignored = values["input"], int(values.get("ignore_index", -100))
            limit = int(scores.shape[1 if scores.dim() > 1 else 0])
            found = {
                "kind": "target",
                "limit": limit,
                "ignore_index": ignored,
                "where": _where(frame),
                "module": "",
                "role": "",
            }
            return found | indices_of(values["target"], limit, ignored, torch)
    return {"kind": "none", "module": "", "role": "", "where": ""}


def _guarded(exception: BaseException | None) -> dict[str, Any]:
    """What tfdiag's own guard saw of a tensor on a device before it stopped the call."""
    kind = type(exception)
    if kind.__name__ != "GuardedIndexError" or kind.__module__ != "tfdiag_ipython.watch.index_guard":
        return {}
    return {"values": vars(exception)["facts"]["values"]}


def _model(frames: list[LiveFrame], torch: Any) -> Any:
    """The outermost module that is running: the user's model."""
    for frame in frames:
        this = (
            frame.locals.get("self")
            if frame.function in {"forward", "_call_impl", "__call__", "_wrapped_call_impl"}
            else None
        )
        if _is(this, torch.nn.Module):
            return this
    return None


def _as_given(frames: list[LiveFrame], ids: Any, torch: Any) -> Any:
    """The ids as the module took them: ``embedding_bag`` flattens them, and a place in that says nothing."""
    held = (frame.locals.get("input") for frame in reversed(frames) if frame.function == "forward")
    given: Any = next(held, None)
    same = type(given) is torch.Tensor and given.device.type == "cpu" and given.data_ptr() == ids.data_ptr()
    return given if same and given.numel() == ids.numel() else ids


def _embedding_module(frames: list[LiveFrame], torch: Any, model: Any, weight: Any) -> tuple[str, str]:
    """The dotted name of the embedding that was indexed, and what its rows stand for."""
    modules = (one for frame in reversed(frames) if _is(one := frame.locals.get("self"), torch.nn.Module))
    embedding = next((one for one in modules if vars(one)["_parameters"].get("weight") is weight), None)
    if model is None or embedding is None:
        return "", ""
    name = next((name for name, module in model.named_modules() if module is embedding), "")
    last = name.rpartition(".")[2]
    if last in NAMES or "position" in last:
        return name, "positions"
    if "token_type" in last or "segment" in last:
        return name, "token types"
    if (
        last in {"wte", "embed_tokens", "shared", "word_embedding", "word_embeddings"}
        or "word" in last
        or "token" in last
    ):
        return name, "tokens"
    return name, ""


def only_model(namespace: Mapping[str, Any], torch: Any) -> Any:
    """The notebook's model with a configuration, if there is exactly one."""
    found = {
        id(value): value
        for name, value in list(namespace.items())
        if not name.startswith("_") and _is(value, torch.nn.Module) and "config" in vars(value)
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _is(value: object, kind: type) -> bool:
    """``isinstance`` that asks the object nothing: a person's ``__class__`` may be a property."""
    return issubclass(type(value), kind)


def _numbers(config: Any) -> dict[str, Any]:
    """The numbers of a transformers configuration; another library's object is not asked, for its attributes may do anything."""
    if not any(base.__module__.startswith("transformers.") for base in type(config).__mro__):
        return {}
    found = {name: getattr(config, name, None) for name in LIMITS}
    return {
        name: value for name, value in found.items() if isinstance(value, (int, str)) and not isinstance(value, bool)
    }


def _length(frames: list[LiveFrame], torch: Any) -> int:
    """Tokens per row of the ``input_ids`` that the model was called with; 0 when they were not found."""
    for frame in frames:
        ids: Any = frame.locals.get("input_ids") if frame.function == "forward" else None
        if _is(ids, torch.Tensor) and ids.dim() == 2:
            return int(ids.shape[1])
    return 0


def _name_of(namespace: Mapping[str, Any], wanted: Any) -> str:
    names = (name for name, value in list(namespace.items()) if not name.startswith("_") and wanted(value))
    return next(names, "")


def tokenizer_of(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook's tokenizer, if there is exactly one: its name and how many tokens it has."""
    found = [
        name
        for name, value in list(namespace.items())
        if not name.startswith("_") and any(base.__name__ == "PreTrainedTokenizerBase" for base in type(value).__mro__)
    ]
    if len(found) != 1:
        return {"tokenizer": "", "tokenizer_length": 0}
    return {"tokenizer": found[0], "tokenizer_length": len(namespace[found[0]])}


def _where(frame: LiveFrame) -> str:
    return f"frame `{frame.function}`, torch/nn/functional.py line {frame.line}"


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    seen: list[Observation] = []
    values = facts.get("values") or {}
    if "first" in values:
        name = facts["variable"] or ("target" if facts["kind"] == "target" else "input")
        place = ", ".join(map(str, values["place"]))
        seen.append(Observation(f"{name}[{place}]", str(values["first"]), facts["where"]))
        seen.append(Observation("out of range", f"{values['count']} of {values['total']}", facts["where"]))
        seen.append(Observation("smallest and largest", f"{values['smallest']}, {values['largest']}", facts["where"]))
    elif facts["kind"] != "none":
        seen.append(Observation("indices", f"shape {facts['shape']} on {facts['device']}, not read", facts["where"]))
    host = facts.get("host") or {}
    if host:
        name, found = host["variable"], host["values"]
        place = ", ".join(map(str, found["place"]))
        seen.append(Observation(f"{name}[{place}]", str(found["first"]), "host memory"))
        seen.append(Observation("out of range", f"{found['count']} of {found['total']}", f"{name}, host memory"))
    if facts["kind"] == "embedding":
        seen.append(Observation("rows", str(facts["limit"]), facts["module"] or "the embedding's weight"))
    elif facts["kind"] == "target":
        seen.append(Observation("classes", str(facts["limit"]), "the scores' shape"))
    for key in _RELEVANT.get(facts["role"] or facts["kind"], ()):
        if key in facts["config"]:
            seen.append(Observation(f"config.{key}", str(facts["config"][key]), "the model"))
    if facts["tokenizer"] and facts["role"] == "tokens":
        seen.append(Observation(f"len({facts['tokenizer']})", str(facts["tokenizer_length"]), "the notebook"))
    if facts["length"] and facts["kind"] != "target" and facts["role"] != "tokens":
        seen.append(Observation("tokens per row", str(facts["length"]), "`input_ids` of the call"))
    return tuple(seen)
