"""The loss that failed: the scores and the labels that it was given, and which call of the program gave them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes._module_calls import in_cell, in_failing_cell, innermost_cell
from tfdiag_ipython.probes.model_call import arguments_of, outermost
from tfdiag_ipython.sizes import sized

LOSSES = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
)
_MOST = 100_000
"""Values of labels on the CPU that are looked at."""


class LossCallProbe(Probe):
    """The frame of PyTorch's loss and, of a model of Transformers, what its call gave: shapes, dtypes, whether the labels are whole numbers.

    Facts: ``loss`` (function), ``scores`` and ``labels`` (shapes; of a model of Transformers as it has them), ``kind`` (dtype of the labels), ``model``
    (class; empty without one), ``problem`` (``problem_type``), ``classes`` (``num_labels``), ``ids`` (shape of the ids; empty: unknown), ``largest``
    (label, where all are whole numbers from 0 on; -1 otherwise), ``whole`` (they are whole numbers; ``None``: not looked at), ``called`` (as written in a cell; empty: not there), ``written`` (the labels there),
    ``keyword`` and ``place`` of the labels, ``scored`` (the scores as written) and ``first`` (their place); ``here`` (in the cell that failed).
    """

    name: ClassVar[str] = "loss-call"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        frame = next(iter(scene.find_frames(*LOSSES, file="torch/nn/functional.py")), None)
        if torch is None or frame is None:
            return Evidence(missing="no frame of one of PyTorch's losses is in this traceback")
        scores: Any = frame.locals.get("input")
        labels: Any = frame.locals.get("target")
        if not _plain(scores, torch) or not _plain(labels, torch):
            return Evidence(missing="the loss was given something else than tensors")
        facts: dict[str, Any] = {"loss": frame.function, "model": "", "problem": "", "classes": 0, "ids": ()}
        facts |= {"called": "", "written": "", "keyword": "", "place": -1, "scored": "", "first": -1, "here": False}
        given = outermost(scene.exception, torch)
        if given is not None and not given.generates:
            arguments = arguments_of(given)
            held = arguments.get("labels")
            labels = held if _plain(held, torch) else labels
            inner = [
                one.locals.get("logits")
                for one in scene.find_frames("forward")
                if one.locals.get("self") is given.module
            ]
            scores = next((one for one in inner if one is not None and _plain(one, torch)), scores)
            config = getattr(given.module, "__dict__", {}).get("config")
            ids: Any = arguments.get("input_ids")
            facts |= {
                "model": type(given.module).__name__,
                "problem": str(getattr(config, "problem_type", None) or ""),
                "classes": int(getattr(config, "num_labels", 0) or 0),
                "ids": tuple(ids.shape) if _plain(ids, torch) else (),
            }
            facts |= _written(given.caller, labels, None, scene, torch)
        else:
            facts |= _written(innermost_cell(scene.exception), labels, scores, scene, torch)
        scene.deadline.check()
        facts |= {
            "scores": tuple(scores.shape),
            "labels": tuple(labels.shape),
            "kind": str(labels.dtype).removeprefix("torch."),
            "largest": _largest(labels, torch),
            "whole": _whole(labels, torch),
        }
        return Evidence(MappingProxyType(facts), _observations(facts))


def _plain(value: Any, torch: Any) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter)


def _written(caller: TracebackType | None, labels: Any, scores: Any, scene: Scene, torch: Any) -> dict[str, Any]:
    """How the call of a cell writes the labels and the scores; empty where it does not show that."""
    if caller is None or not in_cell(caller):
        return {}
    frame = caller.tb_frame
    values = FrameValues(frame.f_locals, frame.f_globals, torch)
    for node in calls_at(caller):
        given = [("", place, value) for place, value in enumerate(node.args)]
        given += [(word.arg, -1, word.value) for word in node.keywords if word.arg]
        same = [one for one in given if _is_it(values, one[2], labels)]
        if scores is None:
            same = [one for one in same if one[0] == "labels"]
        if len(same) != 1:
            continue
        keyword, place, node_of = same[0]
        first = [one for one in given if scores is not None and _is_it(values, one[2], scores) and not one[0]]
        return {
            "called": ast.unparse(node.func),
            "written": ast.unparse(node_of)[:60],
            "keyword": keyword,
            "place": place,
            "scored": ast.unparse(first[0][2])[:60] if len(first) == 1 else "",
            "first": first[0][1] if len(first) == 1 else -1,
            "here": in_failing_cell(caller, scene.exception),
        }
    return {}


def _is_it(values: FrameValues, node: ast.expr, wanted: Any) -> bool:
    """Whether this expression is the tensor, as far as it can be read without a call."""
    return not isinstance(node, ast.Call) and values.read(node) is wanted


def _whole(labels: Any, torch: Any) -> bool | None:
    """Whether all values are whole numbers; ``None``: not looked at."""
    if labels.device.type != "cpu" or not 0 < labels.numel() <= _MOST or labels.dtype.is_complex:
        return None
    with torch.no_grad():
        return bool((labels == labels.floor()).all()) if labels.dtype.is_floating_point else True


def _largest(labels: Any, torch: Any) -> int:
    if not _whole(labels, torch):
        return -1
    with torch.no_grad():
        return int(labels.max()) if bool((labels >= 0).all()) else -1


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    name = facts["written"] or "labels"
    seen = [
        Observation(f"{name}.shape", f"{sized(facts['labels'])}, {facts['kind']}", f"frame `{facts['loss']}`"),
        Observation("scores", sized(facts["scores"]), f"frame `{facts['loss']}`"),
    ]
    if facts["model"]:
        told = f"problem_type {facts['problem'] or 'not set'}, {facts['classes']} classes"
        seen.append(Observation(facts["model"], told, "its configuration"))
    return tuple(seen)
