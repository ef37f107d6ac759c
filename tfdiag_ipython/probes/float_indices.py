"""The tensor of another type than int64 that a cell's call gave to an embedding."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import CELL_FILE, Failure
from tfdiag_ipython.fixes.source import MOST_WRITTEN
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes.model_call import is_model

_MOST = 1_000_000
"""Values of a tensor on the CPU that are looked at."""
_IDS = frozenset({"input_ids", "inputs", "input", "decoder_input_ids", "token_type_ids", "position_ids"})
"""Arguments of a model of Transformers that go into an embedding."""


class FloatIndicesProbe(Probe):
    """The innermost cell's call in the traceback, and its only argument that may be ids and is a tensor of another type than int64 or int32.

    Facts: ``written`` (the argument), ``variable`` (a plain name; empty for another expression), ``called``, ``call`` (the whole of it), ``place`` (of a positional
    argument; -1 for a named one), ``keyword``, ``dtype``, ``empty`` (no value), ``whole`` (all values are whole numbers; ``None``: not looked at),
    ``one_hot`` (each row of as many values as the embedding has rows holds a single 1).
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


def _found(own: TracebackType, values: FrameValues, torch: Any) -> Iterator[tuple[ast.Call, int, str, ast.expr]]:
    """Such arguments of the calls in the failing expression that may be ids, with their place and name."""
    functional = torch.nn.functional.embedding
    for call in calls_at(own):
        called = values.read(call.func)
        names = _names(called)
        given: list[tuple[int, str, ast.expr]] = [(place, "", value) for place, value in enumerate(call.args)]
        given += [(-1, word.arg, word.value) for word in call.keywords if word.arg in _IDS and word.arg]
        for place, keyword, node in given:
            if names and (keyword or "".join(names[place : place + 1])) not in _IDS:
                continue  # a mask, or vectors
            if called is functional and place > 0:
                continue  # the table of rows
            value = values.read(node)
            if values.is_tensor(value) and value.dtype not in (torch.int64, torch.int32):
                yield call, place, keyword, node


def _names(called: Any) -> tuple[str, ...]:
    """The parameters of a model of Transformers by place; nothing for another callable."""
    if not is_model(called):
        return ()
    try:
        return tuple(inspect.signature(type(called).forward).parameters)[1:]
    except (TypeError, ValueError):
        return ()


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
