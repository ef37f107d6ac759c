"""Calls of Transformers models whose ids are padded and that pass no attention mask, while a cell runs."""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tfdiag_ipython.failure import CELL_FILE, Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.padding import Batch, measure, padded_batch
from tfdiag_ipython.watch.imports import after_import
from tfdiag_ipython.watch.model_calls import by_name, calls_of

SUSPECTED = "A call passes padded ids and no attention mask."
SECONDS = 2.0
"""What measuring at the end of the cell may take, judged by how long the observed call took."""
FORWARDS = 4
"""What measuring costs, in calls as long as the observed one: with the mask, without, and the rows one by one."""
MOST = 8
"""Different calls kept of one cell; of ids in device memory, which are not read before its end, the same number per line."""


@dataclass
class _Call:
    """A call whose ids look padded. The model is not kept alive; the ids are, until the cell has ended."""

    model: weakref.ref[Any]
    ids: Any
    source: str
    seconds: float = field(default=float("inf"))


class PaddingWatch:
    """Takes note of the outermost calls of Transformers models; measures the suspicious ones when the cell has ended.

    A row is padded where it begins or ends with ``config.pad_token_id``. What no measurement confirms is not reported, unless
    measuring would take too long; then it is said to be suspected.
    """

    watched = "unmasked padding"

    def __init__(self) -> None:
        self._calls: dict[tuple[int, str, int], _Call] = {}
        self._measured = 0
        self._undo = contextlib.ExitStack()

    def start(self) -> None:
        self._undo.enter_context(after_import("transformers.modeling_utils", self._watch))

    def _watch(self, modeling: ModuleType) -> None:
        self._undo.enter_context(calls_of(modeling.PreTrainedModel, self._see))

    def stop(self, scene: Scene) -> list[Failure]:
        self._undo.close()
        calls, self._calls = list(self._calls.values()), {}
        found = [self._finding(call, scene) for call in calls] if scene.live and not scene.cuda_dead else []
        return [finding for finding in found if finding is not None]

    def answers(self, finding: Failure) -> bool:
        """transformers' own warning that ids *may* be padded, once the calls were measured."""
        return bool(self._measured) and finding.kind == "warning" and "input_ids may be padded" in finding.top.message

    def _see(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], None] | None:
        if kwargs.get("attention_mask") is not None:
            return None
        named = by_name(model, args, kwargs)
        ids, pad = named.get("input_ids"), getattr(model.config, "pad_token_id", None)
        if ids is None or named.get("attention_mask") is not None or not isinstance(pad, int) or ids.dim() != 2:
            return None
        on_host = ids.device.type == "cpu"
        if on_host and not _looks_padded(ids, pad):
            return None
        source, line = _place()
        key = next(
            (
                (id(model), source, n)
                for n in range(1 if on_host else MOST)
                if (id(model), source, n) not in self._calls
            ),
            None,
        )
        if key is None or not line or len(self._calls) >= MOST:
            return None
        call = self._calls[key] = _Call(weakref.ref(model), ids.detach(), source)
        began = time.perf_counter()

        def ended() -> None:
            call.seconds = time.perf_counter() - began

        return ended

    def _finding(self, call: _Call, scene: Scene) -> Failure | None:
        model = call.model()
        if model is None or not _looks_padded(call.ids, model.config.pad_token_id):
            return None
        cells = reversed([cell for cell in scene.cells if call.source in cell.source])
        observed = (((next((cell.label for cell in cells), "a cell")), call.source),)
        name, inputs, batch = _named(model, call.ids, scene)
        if call.seconds * FORWARDS <= SECONDS:
            self._measured += 1
            return measure(model, batch, name, inputs, scene, observed).finding
        facts = {"model": name, "inputs": inputs, "mask": batch.expression, "unmasked": observed}
        rows, padded = int(batch.ids.shape[0]), int((batch.mask == 0).any(dim=1).sum())
        return Failure.from_finding("padding", SUSPECTED, {**facts, "rows": rows, "padded": padded})


def _looks_padded(ids: Any, pad: int) -> bool:
    """Whether a row of ``(rows, length)`` ids begins or ends with the padding token, and is not made of it."""
    if not ids.numel():
        return False
    rows = ids.numpy() if ids.device.type == "cpu" else ids  # a few microseconds less, and this looks at every call
    edges = (rows[:, -1] == pad).any() or (rows[:, 0] == pad).any()
    return bool(edges) and bool((ids != pad).any(dim=1).all())


def _place() -> tuple[str, int]:
    """The source line of the person's cell that is running, and its number; 0 when the call comes from elsewhere."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if re.match(CELL_FILE, code.co_filename):
            return linecache.getline(code.co_filename, frame.f_lineno).strip()[:120], frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "", 0


def _named(model: Any, ids: Any, scene: Scene) -> tuple[str, str, Batch]:
    """The notebook's names of the model and of the inputs, and the padded batch; words where it has no name for them."""
    names = [name for name in scene.namespace if not name.startswith("_")]
    name = next((name for name in names if scene.namespace[name] is model), "the model")
    for inputs in names:
        value = scene.namespace[inputs]
        fields = vars(value).get("data") if hasattr(type(value), "convert_to_tensors") else value
        held: Any = fields.get("input_ids") if type(fields) is dict else value
        if type(held) is type(ids) and held.shape == ids.shape and held.data_ptr() == ids.data_ptr():
            with contextlib.suppress(LookupError):
                return name, inputs, padded_batch(model, value, inputs, scene)
    return name, "its inputs", padded_batch(model, ids, "input_ids", scene)
