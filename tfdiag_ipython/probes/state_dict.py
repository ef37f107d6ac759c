"""What did not fit when a checkpoint's tensors were put into a model: names and shapes, read from the loading frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene

MISMATCH = re.compile(
    r"size mismatch for (?P<name>\S+): copying a (?:param|parameter|buffer)?.{0,40}?torch\.Size\(\[(?P<stored>[\d, ]*)\]\).{0,20}? "
    r"from checkpoint, (?:the )?(?:shape|where the shape) (?:in current model )?is (?:torch\.Size\()?\[(?P<wanted>[\d, ]*)\]"
)
_REPORTED = re.compile(
    r"(?<![\w.])(?P<name>[\w.]+)\s{0,200}\|[^|\n]{0,60}?MISMATCH[^|\n]{0,60}\|[^\n]{0,200}?ckpt: torch\.Size\(\[(?P<stored>[\d, ]*)\]\) vs model: ?"
    r"torch\.Size\(\[(?P<wanted>[\d, ]*)\]\)"
)
"""A row of the loading report that transformers 5 logs."""
_ASSIGNED = re.compile(
    r"Trying to set a tensor of shape torch\.Size\(\[(?P<stored>[\d, ]*)\]\) in \"(?P<name>[\w.]+)\" "
    r"\(which has shape torch\.Size\(\[(?P<wanted>[\d, ]*)\]\)\)"
)
"""What accelerate's ``set_module_tensor_to_device`` says."""
LIMIT = 200


class StateDictProbe(Probe):
    """The tensors of a checkpoint that do not fit the model being loaded.

    Facts: ``mismatched`` (tuples of name, shape in the checkpoint, shape in the model), ``model`` (class), ``checkpoint`` (what was
    given to ``from_pretrained``, empty for a plain ``load_state_dict``). Sources: ``LoadStateDictInfo`` of transformers 5, the local
    ``param_name`` of 4's ``_load_parameter_into_model``, and the message.
    """

    name: ClassVar[str] = "state-dict"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        found = mismatches(failure)
        model = checkpoint = ""
        for frame in scene.find_frames("from_pretrained", "_load_pretrained_model", "load_state_dict"):
            scene.deadline.check()
            values = frame.locals
            model = model or type(values.get("model", values.get("self"))).__name__
            if frame.function == "from_pretrained":
                checkpoint = str(values.get("pretrained_model_name_or_path") or "")
                model = type(values.get("model")).__name__ if values.get("model") is not None else model
        for frame in scene.find_frames(file="transformers/modeling_utils.py"):
            found = [*_reported(frame), *found] if not found else _with_full_names(frame, found)
        if not model:
            return Evidence(missing="no frame of a loading model is left in this traceback")
        unique = tuple(dict.fromkeys(found))[:LIMIT]
        seen = tuple(
            Observation(name, f"{list(stored)} in the checkpoint, {list(wanted)} in the model", f"loading {model}")
            for name, stored, wanted in unique[:8]
        )
        return Evidence(MappingProxyType({"mismatched": unique, "model": model, "checkpoint": checkpoint}), seen)


Mismatch = tuple[str, tuple[int, ...], tuple[int, ...]]


def mismatches(failure: Failure) -> list[Mismatch]:
    """The shape mismatches that the message, or the loading report in front of it, lists."""
    text = failure.text or "\n".join(raised.message for raised in failure.chain)
    found = [hit for form in (MISMATCH, _REPORTED, _ASSIGNED) for hit in form.finditer(text)][:LIMIT]
    return [(hit["name"], _shape(hit["stored"]), _shape(hit["wanted"])) for hit in found]


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())


def _reported(frame: LiveFrame) -> Iterator[Mismatch]:
    """transformers 5 keeps the list in ``loading_info`` and raises without it."""
    keys: Any = getattr(frame.locals.get("loading_info"), "mismatched_keys", None)
    if isinstance(keys, Iterable):
        for entry in sorted(keys, key=lambda entry: (not str(entry[0]).endswith("weight"), str(entry[0])))[:LIMIT]:
            yield str(entry[0]), tuple(int(size) for size in entry[1]), tuple(int(size) for size in entry[2])


def _with_full_names(frame: LiveFrame, found: list[Mismatch]) -> list[Mismatch]:
    """transformers 4.57 loads tensor by tensor: the message names ``bias``, the frame ``classifier.bias``."""
    full = frame.locals.get("param_name")
    if frame.function != "_load_parameter_into_model" or not isinstance(full, str):
        return found
    return [(full if full.endswith(f".{name}") else name, stored, wanted) for name, stored, wanted in found]
