"""What the notebook calls a watched call's model and inputs, and which of its tokens are padding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfdiag_ipython.fixes.model_calls import inputs_written
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.padding import described, gives, unwrapped
from tfdiag_ipython.probes.padding_batch import Batch, Padding, batch_of, is_mask, padding_of
from tfdiag_ipython.watch.padding_calls import Call


def prepare(call: Call, scene: Scene, *, asked: bool = False) -> tuple[Any, Batch, Padding, str, str] | None:
    """The model, the padded batch, its padding token and the notebook's names of model and inputs; ``None`` without padding."""
    model = call.model()
    padding = None if model is None else padding_of(model, scene.namespace)
    if model is None or padding is None:
        return None
    names = _names(model, call, scene)
    batch = batch_of(model, call.given, padding, asked=asked, mask=names.mask)
    if batch is None:
        return None
    beside = names.mask if names.holder == names.inputs else None
    expressed = described(batch, names.inputs, names.mapping, beside, padding)
    if names.passes or (beside is None and gives(names.mask, batch)):
        holder = names.holder or names.inputs
        expressed = replace(expressed, expression=f'{holder}["attention_mask"]', holds_mask=names.passes)
    return model, expressed, padding, names.model, names.inputs


@dataclass(frozen=True)
class _Names:
    """What the program calls a watched call's model and inputs.

    ``mapping``: the inputs are a mapping that holds the ids; ``holder``: the mapping that holds a mask beside these very ids, ``mask``;
    ``passes``: the inputs hold a mask, though the name is bound to another batch by now, as after a loop.
    """

    model: str
    inputs: str
    mapping: bool = False
    holder: str = ""
    mask: Any = None
    passes: bool = False


def _names(model: Any, call: Call, scene: Scene) -> _Names:
    """The names by the notebook's variables; of several, those in the call's line. Words stand for what has no name."""
    ids = call.given["input_ids"]
    names = [name for name in scene.namespace if not name.startswith("_")]
    models = [name for name in names if _is_model(scene.namespace[name], model)]
    written = [name for name in models if re.search(rf"\b{re.escape(name)}\s*[(.]", call.source)]
    name = (written or models or ["the model"])[0]
    found: dict[str, Mapping[str, Any] | None] = {}
    for inputs in names:
        fields, held = _held(scene.namespace[inputs])
        if type(held) is type(ids) and held.shape == ids.shape and held.data_ptr() == ids.data_ptr():
            found[inputs] = fields
    holders = [
        name for name, fields in found.items() if fields is not None and fields.get("attention_mask") is not None
    ]
    holder = holders[-1] if holders else ""
    mask = (found[holder] or {})["attention_mask"] if holder else None
    named = [inputs for inputs in found if re.search(rf"\b{re.escape(inputs)}\b", call.source)]
    if not found and (looped := inputs_written(call.source, name)) is not None and looped[0] in scene.namespace:
        fields, held = _held(scene.namespace[looped[0]])
        other = (fields or {}).get("attention_mask")
        return _Names(name, looped[0], looped[1] and fields is not None, passes=is_mask(other, held))
    inputs = (named or ([holder] if holder else list(found)) or ["its inputs"])[0]
    return _Names(name, inputs, found.get(inputs) is not None, holder, mask)


def _held(value: Any) -> tuple[Mapping[str, Any] | None, Any]:
    """The fields of a mapping of inputs, and the ids in it; of a plain tensor no fields, and itself."""
    fields = vars(value).get("data") if hasattr(type(value), "convert_to_tensors") else value
    return (fields, fields.get("input_ids")) if type(fields) is dict else (None, value)


def _is_model(value: Any, model: Any) -> bool:
    return value is model or (type(value).__name__ == "OptimizedModule" and unwrapped(value) is model)
