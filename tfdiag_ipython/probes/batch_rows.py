"""A batch of any size made of the person's own: its rows, repeated as often as it takes."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfdiag_ipython.sizes import memory_size

EXAMPLE_DEPTH = {"input_ids": 1, "attention_mask": 1, "pixel_values": 3, "input_features": 2, "input_values": 1}
"""Dimensions that one row of these inputs has: with no more than that, the inputs are a single example."""


class Rows:
    """Inputs of a model as tensors; ``made(rows, device)`` is what the model is called with.

    ``dimension``: along which the rows lie. ``notes``: what a person should know, in sentences.
    """

    def __init__(self, torch: Any, inputs: Any, model: Any, dimension: int = 0) -> None:
        self._torch = torch
        self._dimension = dimension
        self.notes: list[str] = []
        self._named = issubclass(type(inputs), Mapping) or hasattr(type(inputs), "keys")
        self._values = self._read(inputs, model)
        self.rows = self._count()

    def made(self, rows: int, device: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments for a batch of so many rows, on this device."""
        values = {}
        for name, value in self._values.items():
            if self._has_rows(value):
                picked = self._torch.arange(rows, device=value.device) % self.rows
                value = value.index_select(self._dimension, picked)
            values[name] = value.to(device) if issubclass(type(value), self._torch.Tensor) else value
        return ((), values) if self._named else (tuple(values.values()), {})

    def _read(self, inputs: Any, model: Any) -> dict[str, Any]:
        torch = self._torch
        kind = type(inputs).__name__
        if isinstance(inputs, Iterator) or kind == "DataLoader":
            raise LookupError(
                f"{_a(kind)} gives its batches away one by one: take one first (`batch = next(iter(...))`) and name that"
            )
        if self._named:
            given = dict(inputs.items())
        elif issubclass(type(inputs), torch.Tensor):
            given = {"0": inputs}
        elif (
            isinstance(inputs, (tuple, list)) and inputs and all(issubclass(type(one), torch.Tensor) for one in inputs)
        ):
            given = {str(place): value for place, value in enumerate(inputs)}
        else:
            raise LookupError(f"{_a(kind)} is no batch: name a dictionary of tensors, a tensor, or a tuple of tensors")
        read = {name: self._tensor(value) for name, value in given.items()}
        if self._named:
            read = self._accepted(read, model)
        if not any(issubclass(type(value), torch.Tensor) for value in read.values()):
            raise LookupError("there is no tensor among the inputs: what should a batch be made of?")
        if any(_is_example(name, value, given[name]) for name, value in read.items()):
            read = {
                name: value[None] if issubclass(type(value), torch.Tensor) else value for name, value in read.items()
            }
        return read

    def _tensor(self, value: Any) -> Any:
        """Numbers in lists and arrays as a tensor; what cannot be one stays as it is."""
        if issubclass(type(value), self._torch.Tensor):
            return value.detach()
        if type(value).__module__ == "numpy" or (type(value) in (list, int, float) and value != []):
            try:
                return self._torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError):
                return value
        return value

    def _accepted(self, given: dict[str, Any], model: Any) -> dict[str, Any]:
        """Without the columns of a dataset's row that the model does not take, as Transformers' Trainer leaves them out."""
        try:
            parameters = inspect.signature(model.forward).parameters
        except (TypeError, ValueError):
            return given
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            kept = {name: value for name, value in given.items() if not isinstance(value, str)}
        else:
            kept = {name: value for name, value in given.items() if name in parameters}
        if len(kept) < len(given):
            left_out = ", ".join(f"`{name}`" for name in given if name not in kept)
            self.notes.append(f"left out, for the model does not take it: {left_out}")
        return kept

    def _count(self) -> int:
        sizes = [int(value.shape[self._dimension]) for value in self._values.values() if self._has_dimension(value)]
        if not sizes:
            raise LookupError(f"no input has a dimension {self._dimension} along which rows could lie")
        first: Any = self._values.get("input_ids")
        alike = Counter(sizes).most_common(1)[0][0]
        rows = int(first.shape[self._dimension]) if self._has_dimension(first) else alike
        if not rows:
            raise LookupError("the inputs have no row: there is nothing to make a batch of")
        return rows

    def _has_dimension(self, value: Any) -> bool:
        return issubclass(type(value), self._torch.Tensor) and value.dim() > self._dimension

    def _has_rows(self, value: Any) -> bool:
        return self._has_dimension(value) and int(value.shape[self._dimension]) == self.rows

    @property
    def told(self) -> str:
        """The shape of one row, for people."""
        tensors = {name: value for name, value in self._values.items() if self._has_rows(value)}
        size = sum(value.numel() * value.element_size() for value in tensors.values()) // self.rows
        names = ", ".join(f"{name} {_shape(value, self._dimension)}" for name, value in list(tensors.items())[:3])
        return f"{names} ({memory_size(size)} each)"


def _shape(value: Any, dimension: int) -> str:
    sizes: Sequence[int] = [size for place, size in enumerate(value.shape) if place != dimension]
    return "×".join(map(str, sizes)) or "1"


def _is_example(name: str, value: Any, given: Any) -> bool:
    """Whether this value has no dimension for rows."""
    if not hasattr(value, "dim"):
        return False
    if name in EXAMPLE_DEPTH:
        return bool(value.dim() <= EXAMPLE_DEPTH[name])
    return name in {"labels", "label"} and bool(value.dim() == 0)


def _a(kind: str) -> str:
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"
