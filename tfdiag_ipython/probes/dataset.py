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
from tfdiag_ipython.probes.dataset_rows import Rows
from tfdiag_ipython.probes.index_tensors import only_model, tokenizer_of
from tfdiag_ipython.probes.named_values import named_value
from tfdiag_ipython.probes.padding import unwrapped

USAGE = "%tfdiag probe dataset DATASET [MODEL]"
FOUND = "The data set holds indices that the model has no place for."
IGNORED = -100
SHOWN = 5
"""Offenders that are shown of each column."""
STEP = 64
"""Rows between two reports of how far it is."""
POSITIONS = frozenset({"position_embeddings", "position_embedding", "wpe", "embed_positions"})


@dataclass
class Limit:
    """What a column may hold, and what was seen of it: values from 0 to ``limit - 1``, or (``length``) at most ``limit`` tokens a row."""

    column: str
    kind: str  # label, id, type or length
    limit: int
    origin: str
    count: int = 0
    rows: int = 0
    smallest: int | None = None
    largest: int | None = None
    checked: int = 0
    first: list[tuple[int, int]] = field(default_factory=list)

    def look(self, number: int, value: Any, torch: Any) -> None:
        """Hold one row's entry against the limit; what is not made of integers is no index."""
        values = torch.as_tensor(value)
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool or not values.numel():
            return
        self.checked += 1
        if self.kind == "length":
            length = int(values.shape[-1]) if values.dim() else 1
            self._range(length, length)
            if length > self.limit:
                self._note(number, length, 1)
            return
        values = values.reshape(-1)
        if self.kind == "label":
            values = values[values != IGNORED]
            if not values.numel():
                return
        low, high = int(values.min()), int(values.max())
        self._range(low, high)
        if low < 0 or high >= self.limit:
            wrong = values[(values < 0) | (values >= self.limit)]
            self._note(number, int(wrong[0]), int(wrong.numel()))

    def _range(self, low: int, high: int) -> None:
        self.smallest = low if self.smallest is None else min(self.smallest, low)
        self.largest = high if self.largest is None else max(self.largest, high)

    def _note(self, number: int, value: int, count: int) -> None:
        self.count += count
        self.rows += 1
        if len(self.first) < SHOWN:
            self.first.append((number, value))


class DatasetProbe(Probe):
    """Checks all rows of a data set against a model's limits (``%tfdiag probe dataset train model``); interrupting it stops it.

    Facts: ``dataset``, ``model`` (expressions), ``rows`` (of the data set), ``read`` (rows that were checked), ``wrong`` (rows that hold an offender), ``columns`` (for each
    checked column ``column``, ``kind`` (``label``, ``id``, ``type``, ``length``), ``limit``, ``origin`` of the limit, ``count`` of
    offending values, ``rows`` that hold them, ``smallest``, ``largest``, ``first`` (pairs of row and value)), ``tokenizer`` and
    ``tokenizer_length``. Labels of -100 are ignored. Rows are asked for as training would: the data set's own code runs; random
    number generators are put back.
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
            return Evidence(missing=f"it could not be checked ({type(error).__name__}: {_said(error)})")

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
            read, wrong, stopped = _check(rows, limits, torch, scene.progress or Progress())
        checked = [limit for limit in limits if limit.checked]
        if not checked:
            if stopped:
                raise LookupError("it was stopped before a row was checked")
            wanted = ", ".join(dict.fromkeys(f"`{limit.column}`" for limit in limits))
            raise LookupError(f"no column of `{dataset}` holds indices: looked for {wanted}")
        facts = {
            "dataset": dataset,
            "model": model_name,
            "rows": rows.total,
            "read": read,
            "wrong": wrong,
            "columns": tuple(vars(limit) | {"first": tuple(limit.first)} for limit in checked),
            **tokenizer_of(scene.namespace),
        }
        finding = Failure.from_finding(self.name, FOUND, facts) if wrong else None
        told = f"stopped after {read:,} of {rows.total:,} rows" if stopped else ""
        return Evidence(MappingProxyType(facts), observations(facts), missing=told, finding=finding)


def _check(rows: Rows, limits: list[Limit], torch: Any, progress: Progress) -> tuple[int, int, bool]:
    """Look at all rows; how many were looked at, how many hold an offender, and whether the person stopped it."""
    read = wrong = 0
    try:
        for number, row in enumerate(rows):
            if not number % STEP:
                progress.report(f"checked {number:,} of {rows.total:,} rows", number / rows.total)
            noted = sum(limit.rows for limit in limits)
            for limit in limits:
                if limit.column in row and row[limit.column] is not None:
                    limit.look(number, row[limit.column], torch)
            wrong += sum(limit.rows for limit in limits) > noted
            read = number + 1
        progress.report(f"checked {read:,} of {rows.total:,} rows", 1.0)
    except (KeyboardInterrupt, Cancelled):
        return read, wrong, True
    return read, wrong, False


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


def limits_of(model: Any, name: str, torch: Any) -> list[Limit]:
    """What the model can take, column by column; a column whose limit it does not tell is left out."""
    config = getattr(model, "config", None)
    found: list[Limit] = []
    words = _rows_of(model, "get_input_embeddings", torch)
    if words:
        told = f"{name}.get_input_embeddings()"
        found += [
            Limit(column, "id", words, f"`{told}` has {words:,} rows") for column in ("input_ids", "decoder_input_ids")
        ]
    types = getattr(config, "type_vocab_size", 0)
    if _count(types):
        found.append(Limit("token_type_ids", "type", types, f"`{name}.config.type_vocab_size` is {types}"))
    places = _positions(model, torch)
    if places:
        found.append(Limit("input_ids", "length", places, f"`{name}` has {places:,} positions"))
    classes, heads = getattr(config, "num_labels", 0), _rows_of(model, "get_output_embeddings", torch)
    if any("Classification" in base.__name__ for base in type(model).__mro__):
        indices = getattr(config, "problem_type", None) in (None, "single_label_classification")
        if indices and _count(classes) and classes > 1:  # one class is a regression
            told = f"`{name}.config.num_labels` is {classes}"
            found += [Limit(column, "label", classes, told) for column in ("labels", "label", "label_ids")]
    elif heads:
        found.append(Limit("labels", "label", heads, f"`{name}` predicts {heads:,} tokens"))
    return found


def _rows_of(model: Any, method: str, torch: Any) -> int:
    """The rows of the embedding or the head that a model's method gives; 0 where it has none."""
    try:
        layer = getattr(model, method)()
    except Exception:  # not every model has one, and some say so by raising
        return 0
    weight = getattr(layer, "weight", None)
    takes_ids = isinstance(layer, torch.nn.Embedding if method == "get_input_embeddings" else torch.nn.Module)
    return int(weight.shape[0]) if takes_ids and isinstance(weight, torch.Tensor) and weight.dim() == 2 else 0


def _positions(model: Any, torch: Any) -> int:
    """The tokens that learned positions are for; 0 where positions are computed, and any length can be run.

    BART and OPT keep the first rows back (``offset``), RoBERTa those up to the padding's.
    """
    found = []
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in POSITIONS and isinstance(module, torch.nn.Embedding):
            kept = getattr(module, "offset", None)
            padding = module.padding_idx
            found.append(module.weight.shape[0] - (kept if _count(kept) else 0 if padding is None else padding + 1))
    return min(found, default=0)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _split(arguments: str) -> tuple[str, str]:
    """The data set's and the model's expression; a key may hold a blank (``data["all rows"]``)."""
    text = arguments.strip()
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        dataset, _, model = text.rpartition(" ")
        return dataset.strip(), model
    return text, ""


def _said(error: Exception) -> str:
    try:
        return str(error)[:120]
    except Exception:  # a hostile __str__
        return "no message"


def observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    """The numbers of each checked column, and its first offenders."""
    seen: list[Observation] = []
    for column in facts["columns"]:
        name = f"length of {column['column']}" if column["kind"] == "length" else column["column"]
        found = (
            f"{column['count']:,} out of range, in {column['rows']:,} {'row' if column['rows'] == 1 else 'rows'}"
            if column["count"]
            else "all in range"
        )
        limits = "" if column["largest"] is None else f" ({column['smallest']:,} to {column['largest']:,})"
        seen.append(Observation(name, f"{found}{limits}", column["origin"].replace("`", "")))
        seen += [Observation(f"{name}, row {row:,}", f"{value:,}", facts["dataset"]) for row, value in column["first"]]
    seen.append(Observation("rows checked", f"{facts['read']:,} of {facts['rows']:,}", facts["dataset"]))
    return tuple(seen)
