"""The rows that a DataLoader or a map handed on when a column was missing, and which of their columns Trainer had removed."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import LIBRARY, Failure
from tfdiag_ipython.probe import Evidence, LiveFrame, Probe, Scene
from tfdiag_ipython.probes._failing_call import failing_call
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes._host_indices import is_batch
from tfdiag_ipython.probes.trainer import columns_of, trainer_of

FETCH = "torch/utils/data/_utils/fetch.py"


class CollatedRowsProbe(Probe):
    """The frames between the data set and the program's function that asked for a column; no row is asked for again.

    Facts: ``columns`` (of the first row as the data set gave it), ``removed`` (columns that Trainer took away before the collator), ``function``
    (of the program, which asked), ``row`` (what was asked, as it is written; empty: not known).
    """

    name: ClassVar[str] = "collated-rows"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frames = list(scene.find_frames())
        own = next((frame for frame in frames if not LIBRARY.search(frame.file)), None)
        place = next(
            (number for number, frame in enumerate(frames) if frame.file.replace("\\", "/").endswith(FETCH)), -1
        )
        inner = next((number for number, frame in enumerate(frames) if frame is own), -1)
        columns: tuple[str, ...] = ()
        removed: tuple[str, ...] = ()
        maps = False
        if own is not None and 0 <= inner < place:
            data = frames[place].locals.get("data")
            columns = _keys(data[0]) if type(data) in (list, tuple) and data else ()
            for frame in frames[inner:place]:
                collator = frame.locals.get("self")
                if type(collator).__name__ == "RemoveColumnsCollator":
                    kept = {str(name) for name in vars(collator).get("signature_columns") or ()}
                    removed = tuple(name for name in columns if name not in kept)
            trainer = trainer_of(scene)
            if trainer is not None and not removed and vars(vars(trainer).get("args")).get("remove_unused_columns"):
                kind, whole = columns_of(vars(trainer).get("train_dataset"))
                if kind == "table":
                    removed = tuple(name for name in whole if name not in columns)
                    columns = tuple(whole)
        else:
            lazy = next(iter(scene.find_frames("__getitem__", file="datasets/formatting/formatting.py")), None)
            data = vars(lazy.locals.get("self")).get("data") if lazy is not None else None
            columns, maps = _keys(data), isinstance(data, Mapping)
        row = _asked_of_row(scene, columns) if columns else ""
        if not columns or own is None or not (maps or row):
            return Evidence(missing="no frame of this traceback shows the rows of a data set")
        facts = {
            "columns": columns,
            "removed": removed,
            "function": _function(frames),
            "row": row,
        }
        seen = [Observation("The data set's rows have", ", ".join(columns[:12]), "the first row of the batch")]
        if removed:
            seen.append(Observation("Trainer removed", ", ".join(removed), "they are not in the model's `forward`"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _asked_of_row(scene: Scene, columns: tuple[str, ...]) -> str:
    """The row that was asked for a column by a literal name, as it is written; empty where some other dictionary raised."""
    torch: Any = scene.module("torch")
    call = failing_call(scene.exception)
    if call is None or torch is None:
        return ""
    values = FrameValues(call.locals, call.globals, torch)
    for node in call.nodes:
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, str)
        ):
            keys = _keys(values.read(node.value))
            if keys and set(keys) <= set(columns) and node.slice.value not in keys:
                return ast.unparse(node.value)
    return ""


def _function(frames: list[LiveFrame]) -> str:
    """The function of the program that asked; of an object that is called, its class."""
    own = [frame for frame in frames if not LIBRARY.search(frame.file) and not frame.function.startswith("<")]
    frame = own[0] if own else frames[0]
    return type(frame.locals.get("self")).__name__ if frame.function == "__call__" else frame.function


def _keys(row: Any) -> tuple[str, ...]:
    fields = vars(row).get("data") if is_batch(type(row)) else row
    return tuple(name for name in fields if isinstance(name, str)) if isinstance(fields, dict) else ()
