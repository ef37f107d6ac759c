"""The tensor of another type than int64 that a cell's call gave to an embedding."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.source import MOST_WRITTEN
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._frame_values import UNKNOWN, FrameValues
from tfdiag_ipython.probes._module_calls import ModuleCall, in_cell, module_calls
from tfdiag_ipython.probes.dtypes import callee, shares

_MOST = 1_000_000
"""Values of a tensor on the CPU that are looked at."""


class FloatIndicesProbe(Probe):
    """The innermost cell's call in the traceback, and its argument that is the very tensor that the embedding was given, or a view of it.

    Facts: ``written`` (the argument), ``call`` (the whole of it), ``place`` (of a positional argument; -1 for a named one), ``keyword``,
    ``dtype``, ``empty`` (no value), ``whole`` (all values are whole numbers; ``None``: not looked at), ``one_hot`` (each row of as many
    values as the embedding has rows holds a single 1).
    """

    name: ClassVar[str] = "float-indices"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        own: TracebackType | None = None
        trace = scene.exception.__traceback__ if scene.exception is not None else None
        while trace is not None:
            own = trace if in_cell(trace) else own
            trace = trace.tb_next
        torch: Any = scene.module("torch")
        if own is None or torch is None:
            return Evidence(missing="no cell's frame is in this traceback")
        frames = scene.find_frames("embedding", "embedding_bag", file="torch/nn/functional.py")
        ids = frames[0].locals.get("input") if frames else None
        made = next((one for one in module_calls(scene.exception, torch) if one.caller is own), None)
        values = FrameValues(own.tb_frame.f_locals, own.tb_frame.f_globals, torch)
        given = list(_given(own, made, values)) if values.is_tensor(ids) else []
        found = [one for one in given if one[-1] is ids] or [one for one in given if shares(one[-1], ids, torch)]
        if len(found) != 1:
            return Evidence(missing="no argument of the failing line alone is the tensor that the embedding was given")
        call, place, keyword, node, value = found[0]
        if value.dtype in (torch.int64, torch.int32):
            return Evidence(missing="the argument is of a type that an embedding takes")
        scene.deadline.check()
        facts = {
            "written": ast.unparse(node)[:60],
            "call": ast.unparse(call)[:MOST_WRITTEN],
            "place": place,
            "keyword": keyword,
            "dtype": str(value.dtype).removeprefix("torch."),
            "empty": value.numel() == 0,
            "whole": _whole(value, torch),
            "one_hot": _one_hot(value, values.read(call.func), torch),
        }
        seen = Observation(f"{facts['written']}.dtype", str(value.dtype), f"frame `{own.tb_frame.f_code.co_name}`")
        return Evidence(MappingProxyType(facts), (seen,))


def _given(
    own: TracebackType, made: ModuleCall | None, values: FrameValues
) -> Iterator[tuple[ast.Call, int, str, ast.expr, Any]]:
    """The arguments of the calls in the failing expression, with their place, name and value.

    What a module was given is taken from its call, for ``ids.float()`` cannot be read from the frame; ``made`` is that call.
    """
    for call in calls_at(own):
        exact = made is not None and values.read(callee(call, made)) is made.module
        for place, node in enumerate(call.args):
            if isinstance(node, ast.Starred):
                break  # the places behind it are not known
            given = made.args[place] if made is not None and exact and place < len(made.args) else UNKNOWN
            yield call, place, "", node, values.read(node) if given is UNKNOWN else given
        for word in call.keywords:
            if word.arg:
                given = made.kwargs.get(word.arg, UNKNOWN) if made is not None and exact else UNKNOWN
                yield call, -1, word.arg, word.value, values.read(word.value) if given is UNKNOWN else given


def _whole(value: Any, torch: Any) -> bool | None:
    if value.device.type != "cpu" or value.numel() > _MOST:
        return None
    if not value.dtype.is_floating_point:
        return not value.dtype.is_complex
    with torch.no_grad():
        return bool((value == value.floor()).all())


def _one_hot(value: Any, called: Any, torch: Any) -> bool:
    rows = called.num_embeddings if type(called) is torch.nn.Embedding else 0
    if not rows or not _whole(value, torch) or value.dim() < 2 or value.shape[-1] != rows or not value.numel():
        return False
    with torch.no_grad():
        return bool(((value == 0) | (value == 1)).all() and (value.sum(-1) == 1).all())
