"""Every label, token id and length of a data set, held against the model's limits, on the CPU."""

from __future__ import annotations

import ast
import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Cancelled, Progress
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.dataset_limits import SHOWN, Limit, limits_of
from tfdiag_ipython.probes.dataset_rows import Rows, Unread, told
from tfdiag_ipython.probes.index_tensors import only_model, tokenizer_of
from tfdiag_ipython.probes.named_values import named_value
from tfdiag_ipython.probes.padding import unwrapped

USAGE = "%tfdiag probe dataset DATASET [MODEL]"
FOUND = "The data set holds indices that the model has no place for."
STEP = 64
"""Rows between two reports of how far it is."""
HOPELESS = 20
"""Rows that may fail before one can be read."""


@dataclass
class Seen:
    """How far the check came: rows that were read, rows that hold an offender, rows that raised, and whether the person stopped it."""

    read: int = 0
    wrong: int = 0
    unread: int = 0
    failed: list[tuple[int, str]] = field(default_factory=list)
    stopped: bool = False


class DatasetProbe(Probe):
    """Checks all rows of a data set against a model's limits (``%tfdiag probe dataset train model``); interrupting it stops it.

    Facts: ``dataset``, ``model`` (expressions), ``rows`` (of the data set), ``read`` (rows that were checked), ``wrong`` (rows that hold an
    offender), ``unread`` (rows that raised) and ``failed`` (pairs of such a row and what it said), ``columns`` (for each checked column ``column``,
    ``kind`` (``label``, ``id``, ``type``, ``length``, ``answer``), ``limit``, ``origin`` of the limit, ``count`` of offending values, ``matters``
    (they are a fault), ``rows`` that hold them, ``smallest``, ``largest``, ``first`` (pairs of row and value), ``odd`` (pairs of row and what
    it holds instead of indices) and ``odd_rows``), ``tokenizer`` and ``tokenizer_length``. Labels of -100 are ignored. Rows are asked for as
    training would: the data set's own code runs; random number generators are put back.
    """

    name: ClassVar[str] = "dataset"
    deep: ClassVar[bool] = True
    usage: ClassVar[str] = USAGE

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return Evidence(missing=f"say which data set and model: `{USAGE}`")

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        try:
            return self._ask(arguments, scene)
        except LookupError as error:
            return Evidence(missing=str(error.args[0]) if error.args else "a row could not be read")
        except Exception as error:  # a data set's own code may do anything
            return Evidence(missing=f"it could not be checked ({told(error)})")

    def _ask(self, arguments: str, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        dataset, model_name = _split(arguments)
        if not dataset:
            raise LookupError(f"say which data set and model: `{USAGE}`")
        if torch is None:
            raise LookupError("torch is not loaded")
        model = named_value(scene.namespace, model_name) if model_name else only_model(scene.namespace, torch)
        if model is None:
            raise LookupError(f"the notebook has not exactly one model: say which, `{USAGE}`")
        if not issubclass(type(model), torch.nn.Module):
            raise LookupError(f"`{model_name}` is no model but a {type(model).__name__}")
        model_name = model_name or next(key for key, value in scene.namespace.items() if value is model)
        held = named_value(scene.namespace, dataset)
        limits = limits_of(unwrapped(model), model_name, torch)
        if not limits:
            raise LookupError(f"`{model_name}` says nothing of its limits: no configuration, no input embedding")
        rows = Rows(held, dataset, frozenset(limit.column for limit in limits), torch)
        with _random_numbers_kept(torch):
            seen = _check(rows, limits, torch, scene.progress or Progress())
        checked = [limit for limit in limits if limit.checked]
        if not checked:
            raise LookupError(_nothing_checked(dataset, model_name, limits, seen))
        facts = {
            "dataset": dataset,
            "model": model_name,
            "rows": rows.total,
            "read": seen.read,
            "wrong": seen.wrong,
            "unread": seen.unread,
            "failed": tuple(seen.failed),
            "columns": tuple(limit.facts() for limit in limits if limit.checked or limit.odd),
            **tokenizer_of(scene.namespace),
        }
        finding = Failure.from_finding(self.name, FOUND, facts) if seen.wrong else None
        return Evidence(MappingProxyType(facts), observations(facts), "; ".join(_not_seen(facts, seen)), finding)


def _check(rows: Rows, limits: list[Limit], torch: Any, progress: Progress) -> Seen:
    """Look at all rows."""
    seen, answers = Seen(), 0
    try:
        for number, row in enumerate(rows):
            if not number % STEP:
                progress.report(f"checked {number:,} of {rows.total:,} rows", number / rows.total)
            if isinstance(row, Unread):
                seen.unread += 1
                if len(seen.failed) < SHOWN:
                    seen.failed.append((number, row.why))
                if seen.unread >= HOPELESS and not seen.read:
                    break
                continue
            before = _offending(limits)
            for limit in limits:
                if limit.column in row and row[limit.column] is not None:
                    limit.look(number, row, torch)
            new = [now > then for now, then in zip(_offending(limits), before, strict=True)]
            seen.wrong += new[0]
            answers += new[1] and not new[0]
            seen.read += 1
        progress.report(f"checked {seen.read:,} of {rows.total:,} rows", 1.0)
    except (KeyboardInterrupt, Cancelled):
        seen.stopped = True
    if any(limit.matters for limit in limits if limit.kind == "answer"):
        seen.wrong += answers
    return seen


def _offending(limits: list[Limit]) -> tuple[int, int]:
    """How often a row was out of range, and how often only an answer was."""
    answers = sum(limit.rows for limit in limits if limit.kind == "answer")
    return sum(limit.rows for limit in limits) - answers, answers


def _nothing_checked(dataset: str, model: str, limits: list[Limit], seen: Seen) -> str:
    if seen.failed:
        number, why = seen.failed[0]
        return f"no row of `{dataset}` could be read: row {number:,} raised {why}"
    odd = next((limit for limit in limits if limit.odd), None)
    if odd is not None:
        number, what = odd.odd[0]
        mapped = f": map it, as with `{model}.config.label2id`" if odd.kind == "label" else ""
        return f"`{odd.column}` in row {number:,} is {what}, and the model takes numbers ({odd.origin}){mapped}"
    if seen.stopped:
        return "it was stopped before a row was checked"
    wanted = ", ".join(dict.fromkeys(f"`{limit.column}`" for limit in limits))
    return f"no column of `{dataset}` holds indices: looked for {wanted}"


def _not_seen(facts: Mapping[str, Any], seen: Seen) -> Iterator[str]:
    """In words, what was not checked."""
    if seen.stopped:
        yield f"stopped after {seen.read + seen.unread:,} of {facts['rows']:,} rows"
    if seen.failed:
        number, why = seen.failed[0]
        yield f"{_rows(seen.unread)} could not be read, the first is row {number:,} ({why})"
    for column in facts["columns"]:
        if column["odd"]:
            number, what = column["odd"][0]
            yield f"`{column['column']}` is no number in {_rows(column['odd_rows'])}, the first is row {number:,} with {what}"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


@contextlib.contextmanager
def _random_numbers_kept(torch: Any) -> Iterator[None]:
    """Rows with random augmentation draw numbers; training must not get others for that."""
    import numpy as np

    state, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=()):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)


def _split(arguments: str) -> tuple[str, str]:
    """The data set's and the model's expression; a key may hold a blank (``data["all rows"]``)."""
    text = arguments.strip()
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        dataset, _, model = text.rpartition(" ")
        return dataset.strip(), model
    return text, ""


def observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    """The numbers of each checked column, and its first offenders."""
    seen: list[Observation] = []
    for column in facts["columns"]:
        name = f"length of {column['column']}" if column["kind"] == "length" else column["column"]
        beyond = "beyond the row's tokens" if column["kind"] == "answer" else "out of range"
        found = f"{column['count']:,} {beyond}, in {_rows(column['rows'])}" if column["count"] else "all in range"
        limits = "" if column["largest"] is None else f" ({column['smallest']:,} to {column['largest']:,})"
        if column["checked"]:
            seen.append(Observation(name, f"{found}{limits}", column["origin"].replace("`", "")))
        seen += [Observation(f"{name}, row {row:,}", f"{value:,}", facts["dataset"]) for row, value in column["first"]]
        seen += [Observation(f"{name}, row {row:,}", what, "no index") for row, what in column["odd"]]
    seen += [Observation(f"row {row:,}", why, "it could not be read") for row, why in facts["failed"]]
    seen.append(Observation("rows checked", f"{facts['read']:,} of {facts['rows']:,}", facts["dataset"]))
    return tuple(seen)
