"""The layer that was given another size than it takes: its path, its size, and what came."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.source import python_of
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import operands_at
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes._module_calls import ModuleCall, in_cell, last, module_calls, name_of, path_in
from tfdiag_ipython.sizes import sized


class LayerInputProbe(Probe):
    """The innermost module in the traceback if it is a linear, normalizing or convolving layer; else the operands of a cell's operation.

    Facts: ``layer`` (PyTorch's class; empty: none), ``path`` (in the outermost module), ``model`` (the notebook's name of that), ``kind`` (its class), ``takes``
    (features or channels), ``given`` (shape), ``attribute`` (that a cell binds to ``nn.Linear(takes, …)``, once in all cells; empty otherwise),
    ``rows`` (first dimension of what the outermost module was given), ``input`` (name in the notebook of what came, if it has one), ``operands`` (as written, shape).
    """

    name: ClassVar[str] = "layer-input"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        calls = list(itertools.islice(module_calls(scene.exception, torch), 500))
        facts: dict[str, Any] = {
            "layer": "",
            "path": "",
            "model": "",
            "kind": "",
            "takes": 0,
            "given": (),
            "attribute": "",
            "rows": 0,
        }
        facts |= {"input": "", "operands": ()}
        if not calls:
            facts["operands"] = _operands(scene, torch)
            if not facts["operands"]:
                return Evidence(missing="no layer and no operation of a cell is in this traceback")
            return Evidence(MappingProxyType(facts), _observations(facts))
        outer, inner = calls[0], calls[-1]
        given: Any = inner.args[0] if inner.args else inner.kwargs.get("input")
        takes = _takes(inner.module, torch)
        if not takes or type(given) not in (torch.Tensor, torch.nn.Parameter):
            return Evidence(missing="what failed is no layer of PyTorch with a number of features")
        path = path_in(outer.module, inner.module)
        scene.deadline.check()
        facts |= {
            "layer": next(one.__name__ for one in type(inner.module).__mro__ if one.__module__.startswith("torch.nn")),
            "path": path,
            "model": name_of(outer.module, scene),
            "kind": type(outer.module).__name__,
            "takes": takes,
            "given": tuple(given.shape),
            "attribute": _attribute(outer.module, path, takes, scene) if type(inner.module) is torch.nn.Linear else "",
            "rows": _rows(outer, torch),
            "input": name_of(given, scene),
        }
        return Evidence(MappingProxyType(facts), _observations(facts))


def _takes(module: Any, torch: Any) -> int:
    """The features or channels that a layer takes; 0 for another module."""
    if isinstance(module, torch.nn.Linear):
        return int(module.in_features)
    if isinstance(module, torch.nn.LayerNorm) and len(module.normalized_shape) == 1:
        return int(module.normalized_shape[0])
    if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
        return int(module.in_channels)
    return 0


def _rows(outer: ModuleCall, torch: Any) -> int:
    """The first dimension of the first tensor that the outermost module was given; 0 without one."""
    values = (*outer.args, *outer.kwargs.values())
    shapes = (one.shape for one in values if type(one) in (torch.Tensor, torch.nn.Parameter))
    return next((int(shape[0]) for shape in shapes if len(shape)), 0)


def _attribute(outer: Any, path: str, takes: int, scene: Scene) -> str:
    """The last name of the path, where just one statement of all cells sets ``self.name = nn.Linear(takes, …)``, in the class that has it."""
    above, _, last = path.rpartition(".")
    owners = {base.__name__ for base in type(outer.get_submodule(above)).__mro__}
    found = inside = 0
    for source in {cell.source for cell in scene.cells if not cell.failed}:
        scene.deadline.check()
        try:
            tree = ast.parse(python_of(source) or "")
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in ast.walk(tree):
            found += makes_linear(node, last, takes)
            if isinstance(node, ast.ClassDef) and node.name in owners:
                inside += sum(makes_linear(part, last, takes) for part in ast.walk(node))
    return last if found == inside == 1 else ""


def makes_linear(node: ast.AST, attribute: str, takes: int) -> bool:
    """Whether the statement is ``self.attribute = nn.Linear(takes, …)``."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.value, ast.Call):
        return False
    target, call = node.targets[0], node.value
    first = call.args[0] if call.args else None
    return (
        isinstance(target, ast.Attribute)
        and target.attr == attribute
        and ast.unparse(call.func).rpartition(".")[2] == "Linear"
        and isinstance(first, ast.Constant)
        and first.value == takes
    )


def _operands(scene: Scene, torch: Any) -> tuple[tuple[str, tuple[int, ...]], ...]:
    trace = last(scene.exception)
    if trace is None or not in_cell(trace):
        return ()
    values = FrameValues(trace.tb_frame.f_locals, trace.tb_frame.f_globals, torch)
    found = [(ast.unparse(node)[:60], values.read(node)) for node in operands_at(trace)]
    return tuple((text, tuple(value.shape)) for text, value in found if values.is_tensor(value))


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    seen = [Observation(f"{text}.shape", sized(shape), "the failing line") for text, shape in facts["operands"]]
    if facts["layer"]:
        name = facts["path"] or facts["layer"]
        seen.append(Observation(f"layer {name} ({facts['layer']})", f"takes {facts['takes']:,}", facts["kind"]))
        seen.append(Observation(f"{facts['input'] or 'its input'}.shape", sized(facts["given"]), "the layer's frame"))
    return tuple(seen)
