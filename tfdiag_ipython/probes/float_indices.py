"""The tensor of another type than int64 that a cell's call gave to an embedding."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import CELL_FILE, Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._frame_values import FrameValues

_MOST = 1_000_000
"""Values of a tensor on the CPU that are looked at."""
_IDS = ("input_ids", "inputs", "input", "decoder_input_ids", "token_type_ids", "position_ids")


class FloatIndicesProbe(Probe):
    """The innermost cell's call in the traceback, and its first argument that is a tensor and holds no int64 or int32.

    Facts: ``written`` (the argument), ``variable`` (a plain name; empty for another expression), ``called``, ``place`` (of a positional
    argument; -1 for a named one), ``keyword``, ``dtype``, ``empty`` (no value), ``whole`` (all values are whole numbers; ``None``: not looked at).
    """

    name: ClassVar[str] = "float-indices"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        own: TracebackType | None = None
        trace = scene.exception.__traceback__ if scene.exception is not None else None
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            own = trace if CELL_FILE.match(file) or file.startswith("<cell") else own
            trace = trace.tb_next
        torch = scene.module("torch")
        if own is None or torch is None:
            return Evidence(missing="no cell's frame is in this traceback")
        values = FrameValues(own.tb_frame.f_locals, own.tb_frame.f_globals, torch)
        found = list(_found(own, values, torch))
        if len(found) != 1:
            return Evidence(missing="no argument of the failing line alone is a tensor of another type")
        call, place, keyword, node = found[0]
        value = values.read(node)
        scene.deadline.check()
        facts = {
            "written": ast.unparse(node)[:60],
            "variable": node.id if isinstance(node, ast.Name) else "",
            "called": ast.unparse(call.func),
            "place": place,
            "keyword": keyword,
            "dtype": str(value.dtype).removeprefix("torch."),
            "empty": value.numel() == 0,
            "whole": _whole(value, torch),
        }
        seen = Observation(f"{facts['written']}.dtype", str(value.dtype), f"frame `{own.tb_frame.f_code.co_name}`")
        return Evidence(MappingProxyType(facts), (seen,))


def _found(own: TracebackType, values: FrameValues, torch: Any) -> Iterator[tuple[ast.Call, int, str, ast.expr]]:
    """The first such argument of each call in the failing expression, with its place and its name."""
    for call in calls_at(own):
        given: list[tuple[int, str, ast.expr]] = [(place, "", value) for place, value in enumerate(call.args)]
        given += [(-1, word.arg, word.value) for word in call.keywords if word.arg in _IDS and word.arg]
        for place, keyword, node in given:
            value = values.read(node)
            if values.is_tensor(value) and value.dtype not in (torch.int64, torch.int32):
                yield call, place, keyword, node
                break


def _whole(value: Any, torch: Any) -> bool | None:
    if value.device.type != "cpu" or value.numel() > _MOST:
        return None
    if not value.dtype.is_floating_point:
        return not value.dtype.is_complex
    with torch.no_grad():
        return bool((value == value.floor()).all())
