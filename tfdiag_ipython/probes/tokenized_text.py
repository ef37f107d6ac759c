"""What a tokenizer was given as text, and which part of it is none."""

from __future__ import annotations

import ast
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes._module_calls import in_cell
from tfdiag_ipython.probes.model_call import is_tokenizer

TAKERS = ("__call__", "encode", "encode_plus", "batch_encode_plus", "tokenize", "_encode_plus")
_ARGUMENTS = ("text", "batch_text_or_text_pairs", "text_pair", "text_target")
_MOST = 200_000
"""Elements of a list that are looked at; their classes, and nothing else."""
_FEW = 64
"""Elements read of another library's columns."""
_COLUMNS = {
    "pandas": ("Series", "Index", "Array"),
    "numpy": ("ndarray",),
    "datasets": ("Column",),
    "polars": ("Series",),
}
"""How classes of other libraries are called that are sequences of texts, and no lists."""


class TokenizedTextProbe(Probe):
    """The outermost call of a tokenizer in the traceback: what came as text, from the frame that took it.

    Facts: ``tokenizer`` (as the call writes it), ``argument``, ``written`` (the text's expression in the call, where it is short), ``kind``
    (class of what came), ``sequence`` (it is a text, a list or a tuple), ``column`` (library whose column it is: ``pandas`` …), ``length``, ``odd`` (class of the first element that is
    no text; empty where there is none), ``place`` (its index, ``1][2`` in lists of words), ``value`` (None, nan and numbers, as they print), ``odds`` (how many),
    ``words`` (all elements are lists of words), ``others`` (the call has a pair or a second argument).
    """

    name: ClassVar[str] = "tokenized-text"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        caller, frame = _taker(scene.exception)
        if frame is None:
            return Evidence(missing="no call of a tokenizer is in this traceback")
        names = frame.tb_frame.f_locals
        given = {name: names[name] for name in _ARGUMENTS if name in names}
        split = names.get("is_split_into_words") is True
        looks = {name: _facts(value, scene, split) for name, value in given.items()}
        wrong = (name for name, one in looks.items() if one["odd"] or one["column"] or not one["sequence"])
        argument = next((name for name in wrong if name == "text" or given[name] is not None), "")
        if not argument:
            return Evidence(missing="what came as text is text")
        facts = {"argument": argument, **looks[argument], **_call(caller, argument, scene)}
        told = (
            facts["kind"]
            if not facts["odd"]
            else f"a {facts['kind']} with {facts['value'] or facts['odd']} at {facts['place']}"
        )
        seen = Observation(f"`{argument}` of the tokenizer", told, f"frame `{frame.tb_frame.f_code.co_name}`")
        return Evidence(MappingProxyType(facts), (seen,))


def _taker(exception: BaseException | None) -> tuple[TracebackType | None, TracebackType | None]:
    """The first frame of a tokenizer's own method that takes text, and the one before it."""
    caller: TracebackType | None = None
    trace = exception.__traceback__ if exception is not None else None
    while trace is not None:
        code = trace.tb_frame.f_code
        inside = "transformers" in code.co_filename
        if inside and code.co_name in TAKERS and is_tokenizer(trace.tb_frame.f_locals.get("self")):
            return caller, trace
        caller, trace = trace, trace.tb_next
    return None, None


def _facts(value: Any, scene: Scene, split: bool) -> dict[str, Any]:
    """What came: nothing of it is run but the columns of known libraries."""
    kind = type(value)
    module = str(kind.__module__).partition(".")[0]
    column = module if kind.__name__.endswith(_COLUMNS.get(module, ())) and module in _COLUMNS else ""
    facts: dict[str, Any] = {"kind": kind.__name__, "column": column, "sequence": issubclass(kind, (str, list, tuple))}
    facts |= {"length": 0, "odd": "", "place": "", "value": "", "odds": 0, "words": False}
    if issubclass(kind, str):
        return facts
    if column:
        elements = list(islice(iter(value), _FEW))
    elif kind in (list, tuple):
        elements = list(value[:_MOST])
    else:
        return facts | {"value": _printed(value)}
    scene.deadline.check()
    words = bool(elements) and all(
        type(one) in (list, tuple) and one and all(type(word) is str for word in one) for one in elements
    )
    pairs = words and (split or all(len(one) == 2 for one in elements))
    odd = [place for place, one in enumerate(elements) if not _is_text(one, split)]
    if odd and not pairs:
        place, first = odd[0], elements[odd[0]]
        if type(first) in (list, tuple):  # of words: which of them is none?
            rows = (
                (row, at, one) for row in odd for at, one in _within(elements[row]) if not issubclass(type(one), str)
            )
            row, at, first = next(rows, (place, -1, first))
            where = f"{row}][{at}" if at >= 0 else str(place)
        else:
            where = str(place)
        facts |= {"odd": type(first).__name__, "place": where, "value": _printed(first), "odds": len(odd)}
    single = all(" " not in word for one in elements[:_FEW] for word in one) if words else False
    return facts | {"length": len(value), "words": not split and single and any(len(one) > 2 for one in elements)}


def _is_text(element: Any, split: bool) -> bool:
    within = _within(element) if split else []
    return issubclass(type(element), str) or (bool(within) and all(issubclass(type(one), str) for _, one in within))


def _within(row: Any) -> list[tuple[int, Any]]:
    return list(enumerate(row)) if type(row) in (list, tuple) else []


def _printed(value: Any) -> str:
    """How None and numbers print; empty for what may be long or private."""
    kind = type(value)
    number = str(kind.__module__) == "numpy" and not hasattr(kind, "__len__")
    known = number or kind in (type(None), int, float, bool)
    return str(value)[:20] if known else ""


def _call(caller: TracebackType | None, argument: str, scene: Scene) -> dict[str, Any]:
    """The call of the tokenizer as a cell writes it."""
    facts: dict[str, Any] = {"tokenizer": "", "written": "", "others": False}
    if caller is None or not in_cell(caller):
        return facts
    frame = caller.tb_frame
    torch = scene.module("torch")
    values = FrameValues(frame.f_locals, frame.f_globals, torch) if torch is not None else None
    calls = []
    for node in calls_at(caller):
        method = isinstance(node.func, ast.Attribute) and node.func.attr in TAKERS
        owner = node.func.value if method and isinstance(node.func, ast.Attribute) else node.func
        named = isinstance(owner, ast.Name) and frame.f_locals.get(owner.id, frame.f_globals.get(owner.id))
        if is_tokenizer(values.read(owner) if values is not None else named):
            calls.append(node)
    if len(calls) != 1:
        return facts
    call = calls[0]
    names = ("text", "batch_text_or_text_pairs") if argument in ("text", "batch_text_or_text_pairs") else (argument,)
    value = next((word.value for word in call.keywords if word.arg in names), None)
    place = {"text_pair": 1, "text_target": 2}.get(argument, 0)
    if value is None and len(call.args) > place:
        value = call.args[place]
    written = ast.unparse(value) if value is not None else ""
    return {
        "tokenizer": ast.unparse(call.func),
        "written": written if len(written) <= 60 else "",
        "others": argument in ("text_pair", "text_target") or len(call.args) > 1,
    }
