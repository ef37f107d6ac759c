"""Which dtypes the failing module has, and which it was given: metadata only, from the frames of the traceback."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at, operands_at
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes._module_calls import (
    MOST_MODULES,
    ModuleCall,
    in_cell,
    in_failing_cell,
    module_calls,
    name_of,
    path_in,
)


class DtypesProbe(Probe):
    """The modules that were running, from the outermost to the layer that failed, and the tensors that a cell's call gave.

    Facts: ``model`` (how the cell's call writes it, else its name in the notebook, else empty), ``kind`` (class), ``dtypes`` (of its
    parameters, the commonest first), ``parts`` (a module of each other dtype), ``ready`` (it has ``.dtype``: a model of Transformers),
    ``layer`` (path of the failing layer, empty for the model itself), ``layer_kind``, ``weight`` and ``given`` (dtypes; empty: not known),
    ``called`` (as written), ``casts`` (arguments of another floating dtype or of whole numbers: keyword, place, as written, dtype),
    ``same`` (these are the very tensor that the layer was given; otherwise they only have its dtype), ``here`` (the call stands in the cell that failed), ``operands`` (of an operation in a cell: as written, dtype).
    """

    name: ClassVar[str] = "dtypes"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        calls = list(itertools.islice(module_calls(scene.exception, torch), 500))
        facts: dict[str, Any] = {"model": "", "kind": "", "dtypes": (), "parts": {}, "ready": False, "layer": ""}
        facts |= {"layer_kind": "", "weight": "", "given": "", "called": "", "casts": (), "same": False, "here": False}
        facts |= {"operands": () if calls else _operands(scene, torch)}
        if calls:
            given = str(_of_layer(calls[-1], calls[-1], torch).get("given", ""))
            outer = _of_module(calls[0].module, scene)["dtypes"]
            mixed = len(outer) > 1 and given in outer
            chosen, casts = (calls[0], {}) if mixed else _blamed(calls, given, scene, torch)
            scene.deadline.check()
            facts["here"] = bool(casts) and in_failing_cell(chosen.caller, scene.exception)
            facts |= _of_module(chosen.module, scene) | _of_layer(chosen, calls[-1], torch) | casts
        if not calls and not facts["operands"]:
            return Evidence(missing="no call of a module and no operation of a cell is in this traceback")
        return Evidence(MappingProxyType(facts), _observations(facts))


def dtype_of(value: Any, torch: Any) -> str:
    """``float32``; empty for what is none of PyTorch's own tensors."""
    return str(value.dtype).removeprefix("torch.") if type(value) in (torch.Tensor, torch.nn.Parameter) else ""


def shares(value: Any, other: Any, torch: Any) -> bool:
    """Whether two tensors are views of the same values; a cast makes a copy."""
    if not dtype_of(value, torch) or not dtype_of(other, torch):
        return False
    if value.layout is not torch.strided or other.layout is not torch.strided:
        return False  # a sparse one has no storage to ask for
    pointer = value.untyped_storage().data_ptr()
    return bool(pointer) and bool(pointer == other.untyped_storage().data_ptr())


def _blamed(calls: list[ModuleCall], given: str, scene: Scene, torch: Any) -> tuple[ModuleCall, dict[str, Any]]:
    """The outermost call that gave the layer its very tensor; where none did, the outermost that gave one of this dtype."""
    first: tuple[ModuleCall, dict[str, Any]] = (calls[0], {})
    for call in calls:
        scene.deadline.check()
        casts = _casts(call, calls[-1], given, scene, torch)
        if casts.get("same"):
            return call, casts
        first = first if first[1] else (call, casts)
    return first if first[1] else (calls[0], {})


def _of_module(module: Any, scene: Scene) -> dict[str, Any]:
    """The floating dtypes of its parameters, by their number of values, and a part of each but the first."""
    sizes: dict[str, int] = {}
    where: dict[str, str] = {}
    for name, parameter in itertools.islice(module.named_parameters(), MOST_MODULES):
        if parameter.dtype.is_floating_point:
            kind = str(parameter.dtype).removeprefix("torch.")
            sizes[kind] = sizes.get(kind, 0) + parameter.numel()
            where.setdefault(kind, name.rpartition(".")[0] or name)
    dtypes = tuple(sorted(sizes, key=lambda kind: -sizes[kind]))
    bases = {f"{base.__module__}.{base.__name__}" for base in type(module).__mro__}
    return {
        "model": name_of(module, scene),
        "kind": type(module).__name__,
        "dtypes": dtypes,
        "parts": {kind: where[kind] for kind in dtypes[1:4]},
        "ready": "transformers.modeling_utils.PreTrainedModel" in bases,
    }


def _of_layer(outer: ModuleCall, inner: ModuleCall, torch: Any) -> dict[str, Any]:
    weights = [one for one in vars(inner.module).get("_parameters", {}).values() if one is not None]
    if not weights:
        return {}
    given = inner.args[0] if inner.args else next(iter(inner.kwargs.values()), None)
    return {
        "layer": path_in(outer.module, inner.module),
        "layer_kind": type(inner.module).__name__,
        "weight": str(weights[0].dtype).removeprefix("torch."),
        "given": dtype_of(given, torch),
    }


def _casts(call: ModuleCall, inner: ModuleCall, given: str, scene: Scene, torch: Any) -> dict[str, Any]:
    """The call as the cell writes it and its arguments of another dtype than the module's; empty where there are none.

    Only that dtype counts which the failing layer was given; where this is not known, any floating dtype. Of several arguments
    only the very tensor of the layer is told, if it is among them.
    """
    if not call.own or call.caller is None:
        return {}
    frame = call.caller.tb_frame
    values = FrameValues(frame.f_locals, frame.f_globals, torch)
    written = [node for node in calls_at(call.caller) if values.read(callee(node, call)) is call.module]
    if len(written) != 1 or any(isinstance(value, ast.Starred) for value in written[0].args):
        return {}
    node = written[0]
    own = {str(one.dtype).removeprefix("torch.") for one in itertools.islice(call.module.parameters(), MOST_MODULES)}
    found: list[tuple[tuple[str, int, str, str], Any]] = []
    expressions = {word.arg: word.value for word in node.keywords if word.arg}
    spread = [word.value for word in node.keywords if word.arg is None]
    for place, value in enumerate(call.args):
        if _other(value, own, given, torch) and place < len(node.args):
            found.append((("", place, ast.unparse(node.args[place])[:60], dtype_of(value, torch)), value))
    for name, value in call.kwargs.items():
        if not _other(value, own, given, torch) or name.endswith(("labels", "mask", "ids")):
            continue
        if name in expressions:
            found.append(((name, -1, ast.unparse(expressions[name])[:60], dtype_of(value, torch)), value))
        elif len(spread) == 1 and isinstance(spread[0], ast.Name):
            found.append(((f"**{name}", -1, spread[0].id, dtype_of(value, torch)), value))
    got = _got(inner, torch) if given else None
    same = [cast for cast, value in found if value is got] or [
        cast for cast, value in found if shares(value, got, torch)
    ]
    casts = tuple(same) if len(same) == 1 else tuple(cast for cast, _ in found)
    model = ast.unparse(callee(node, call))
    facts = {"called": ast.unparse(node.func), "model": model, "casts": casts, "same": len(same) == 1}
    return facts if found else {}


def _got(inner: ModuleCall, torch: Any) -> Any:
    """The tensor that the layer computes with; ``None`` where it has several, and is not one of PyTorch's, whose first is this one."""
    tensors = [value for value in (*inner.args, *inner.kwargs.values()) if dtype_of(value, torch)]
    own = type(inner.module).__module__.startswith("torch.nn.")
    return tensors[0] if len(tensors) == 1 or (own and tensors) else None


def callee(node: ast.Call, call: ModuleCall) -> ast.expr:
    """The module in ``model(…)`` or ``model.generate(…)``."""
    if not call.generates:
        return node.func
    method = isinstance(node.func, ast.Attribute) and node.func.attr == "generate"
    return node.func.value if method and isinstance(node.func, ast.Attribute) else ast.Constant(None)


def _other(value: Any, own: set[str], given: str, torch: Any) -> bool:
    dtype = dtype_of(value, torch)
    counts = dtype == given if given else bool(dtype) and value.dtype.is_floating_point
    return counts and bool(own) and dtype not in own


def _operands(scene: Scene, torch: Any) -> tuple[tuple[str, str], ...]:
    """What an operation that a cell itself makes was given."""
    trace = scene.exception.__traceback__ if scene.exception is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not in_cell(trace):
        return ()
    values = FrameValues(trace.tb_frame.f_locals, trace.tb_frame.f_globals, torch)
    plain = [node for node in operands_at(trace) if not any(isinstance(part, ast.Call) for part in ast.walk(node))]
    found = [(ast.unparse(node)[:60], dtype_of(values.read(node), torch)) for node in plain]
    return tuple((text, dtype) for text, dtype in found if dtype)


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    seen = [Observation(f"{text}.dtype", dtype, "the failing line") for text, dtype in facts["operands"]]
    if facts["kind"]:
        parts = "".join(f", {path}: {kind}" for kind, path in facts["parts"].items())
        told = f"{facts['dtypes'][0] if facts['dtypes'] else 'none'}{parts}"
        seen.append(Observation(f"{facts['model'] or facts['kind']}: parameters", told, facts["kind"]))
    for keyword, _, written, dtype in facts["casts"]:
        name = f"{written}[{keyword[2:]!r}]" if keyword.startswith("**") else written
        seen.append(Observation(f"{name}.dtype", dtype, f"the call of {facts['called']}"))
    if facts["weight"]:
        told = f"{facts['weight']}, was given {facts['given'] or 'something else'}"
        seen.append(
            Observation(f"layer {facts['layer'] or facts['layer_kind']} ({facts['layer_kind']})", told, "its frame")
        )
    return tuple(seen[:8])
