"""On which devices the model of the failing call and its inputs are. Only metadata is read, so a dead CUDA context does no harm.

Source: ``torch/nn/modules/module.py`` (``_call_impl`` calls ``forward``) of torch 2.13.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

MOST_PARAMETERS = 5_000
"""Parameters whose device is read: more than any model has on its first device."""


class DevicesProbe(Probe):
    """The devices of the outermost module that was running, and of the tensors that its ``forward`` was given.

    Facts: ``model`` (name in the notebook, may be empty), ``model_devices``, ``inputs`` (argument → device), ``variable`` (name of the
    notebook's tensor or batch that holds an input), ``movable`` (whether that has a ``to`` of its own: a tensor or an encoding).
    """

    name: ClassVar[str] = "devices"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        for frame in scene.frames:
            scene.deadline.check()
            values = frame.locals
            model = values.get("self") if frame.function == "forward" else None
            if not isinstance(model, torch.nn.Module):
                continue
            asked = inspect.signature(type(model).forward).parameters  # what `forward` made itself is no input
            given = {
                name: value for name, value in list(values.items())[:50] if name in asked and _counts(value, torch)
            }
            parameters = itertools.islice(model.parameters(), MOST_PARAMETERS)
            devices = tuple(sorted({str(one.device) for one in parameters}))
            variable, movable = _holder(scene.namespace, {id(value) for value in given.values()})
            names = (
                name for name, value in list(scene.namespace.items()) if value is model and not name.startswith("_")
            )
            facts = {
                "model": next(names, ""),
                "model_devices": devices,
                "inputs": {name: str(value.device) for name, value in given.items()},
                "variable": variable,
                "movable": movable,
            }
            return Evidence(MappingProxyType(facts), _observations(facts, type(model).__name__))
        return Evidence(missing="no frame of a module's `forward` is left in this traceback")


def _counts(value: Any, torch: Any) -> bool:
    """A tensor that has a device of its own; one of no dimensions on the CPU meets any other."""
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.dim() > 0


def _holder(namespace: Mapping[str, Any], wanted: set[int]) -> tuple[str, bool]:
    """The notebook's name for what holds one of these tensors, and whether it has a ``to`` of its own."""
    for name, value in list(namespace.items()):
        if name.startswith("_"):
            continue
        if id(value) in wanted:
            return name, True
        encoding = type(value).__name__ in {"BatchEncoding", "BatchFeature"}
        inner = value if isinstance(value, dict) else getattr(value, "data", None) if encoding else None
        if isinstance(inner, dict) and any(id(part) in wanted for part in list(inner.values())[:50]):
            return name, encoding
    return "", False


def _observations(facts: Mapping[str, Any], kind: str) -> tuple[Observation, ...]:
    seen = [
        Observation(f"{facts['model'] or kind}: parameters on", ", ".join(facts["model_devices"]) or "(none)", kind)
    ]
    seen += [
        Observation(f"{name}.device", device, f"frame `forward` of {kind}") for name, device in facts["inputs"].items()
    ]
    return tuple(seen[:8])
