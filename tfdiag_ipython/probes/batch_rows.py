"""A batch of any size made of the person's own: its rows, repeated as often as it takes."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfdiag_ipython.probes.padding import unwrapped
from tfdiag_ipython.sizes import memory_size

EXAMPLE_DEPTH = {"input_ids": 1, "attention_mask": 1, "pixel_values": 3, "input_features": 2, "input_values": 1}
"""Dimensions that one row of these inputs has: with no more than that, the inputs are a single example."""
LABELS = ("labels", "label")
"""Without any of those, a single number here says so."""
KINDS = "a dictionary of tensors, a tensor, or a tuple of tensors"


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
        values = {name: self._repeated(value, rows, device) for name, value in self._values.items()}
        return ((), values) if self._named else (tuple(values.values()), {})

    def _repeated(self, value: Any, rows: int, device: Any) -> Any:
        """The rows of a tensor, those of tensors within dictionaries and lists, and lists of one thing for each row."""
        if self._is_tensor(value):
            if self._has_rows(value):
                value = value.index_select(self._dimension, self._torch.arange(rows, device=value.device) % self.rows)
            return value.to(device)
        if type(value) is dict:
            return {name: self._repeated(part, rows, device) for name, part in value.items()}
        if type(value) is list and len(value) == self.rows and not all(map(self._has_rows, value)):
            parts = [_moved(self._torch, part, device) for part in value]
            return [parts[place % self.rows] for place in range(rows)]
        if type(value) in (list, tuple):
            return type(value)(self._repeated(part, rows, device) for part in value)
        return value

    def _read(self, inputs: Any, model: Any) -> dict[str, Any]:
        kind = type(inputs).__name__
        if issubclass(type(inputs), Iterator) or any(base.__name__ == "DataLoader" for base in type(inputs).__mro__):
            raise LookupError(
                f"{a(kind)} gives its batches away one by one: take one first (`batch = next(iter(...))`) and name that"
            )
        if self._named:
            given = dict(inputs.items())
        elif self._is_tensor(inputs) or type(inputs).__module__ == "numpy":
            given = {"0": inputs}
        elif issubclass(type(inputs), (tuple, list)) and inputs and all(map(self._is_tensor, inputs)):
            given = {str(place): value for place, value in enumerate(inputs)}
        else:
            one = ", such as one of its items (`name[0]`)" if issubclass(type(inputs), (list, tuple)) and inputs else ""
            raise LookupError(f"{a(kind)} is no batch: name {KINDS}{one}")
        read = {name: self._tensor(value) for name, value in given.items()}
        if self._named:
            read = self._accepted(read, model)
        if self._is_example(read):
            numbers = {name: self._tensor(value, numbers=True) for name, value in read.items()}
            read = {name: value[None] if self._is_tensor(value) else value for name, value in numbers.items()}
        if not any(map(self._is_tensor, read.values())):
            raise LookupError(f"there is no tensor among the inputs: name {KINDS}")
        return read

    def _tensor(self, value: Any, *, numbers: bool = False) -> Any:
        """Lists and arrays of numbers as a tensor, single numbers where these are rows, too; what cannot be one stays as it is."""
        if self._is_tensor(value):
            return value.detach()
        kinds = (int, float) if numbers else (list,)
        if type(value).__module__ == "numpy" or (type(value) in kinds and value != []):
            try:
                return self._torch.as_tensor(value, device="cpu")
            except (TypeError, ValueError, RuntimeError):
                return value
        return value

    def _accepted(self, given: dict[str, Any], model: Any) -> dict[str, Any]:
        """Without the columns of a dataset's row that the model does not take, as Transformers' Trainer leaves them out."""
        try:
            parameters = inspect.signature(unwrapped(model).forward).parameters
        except (TypeError, ValueError):
            return given
        if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            kept = {name: value for name, value in given.items() if name in parameters or not _is_text(value)}
        else:
            kept = {name: value for name, value in given.items() if name in parameters}
        if len(kept) < len(given):
            left_out = ", ".join(f"`{name}`" for name in given if name not in kept)
            self.notes.append(f"left out, for the model does not take it: {left_out}")
        return kept

    def _is_example(self, values: Mapping[str, Any]) -> bool:
        """Whether the inputs have no dimension for rows."""
        known = [(values[name], depth) for name, depth in EXAMPLE_DEPTH.items() if self._is_tensor(values.get(name))]
        if known:
            return any(value.dim() <= depth for value, depth in known)
        labels = [values[name] for name in LABELS if name in values]
        return any(type(one) in (int, float) or (self._is_tensor(one) and not one.dim()) for one in labels)

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

    def _is_tensor(self, value: Any) -> bool:
        return issubclass(type(value), self._torch.Tensor)

    def _has_dimension(self, value: Any) -> bool:
        return self._is_tensor(value) and value.dim() > self._dimension

    def _has_rows(self, value: Any) -> bool:
        return self._has_dimension(value) and int(value.shape[self._dimension]) == self.rows

    @property
    def told(self) -> str:
        """The shape of one row, for people."""
        tensors = {name: value for name, value in self._values.items() if self._has_rows(value)}
        size = sum(value.numel() * value.element_size() for value in tensors.values()) // self.rows
        names = ", ".join(f"{name} {_shape(value, self._dimension)}" for name, value in list(tensors.items())[:3])
        return f"{names} ({memory_size(size)} each)"

    @property
    def unlike(self) -> str:
        """Inputs with another number of rows than the others, which are given as they are; empty where there are none."""
        held = {name: int(one.shape[self._dimension]) for name, one in self._values.items() if self._has_dimension(one)}
        others = [f"{self._called(name)} has {size}" for name, size in held.items() if size not in (1, self.rows)]
        first = next(name for name, size in held.items() if size == self.rows)
        return f"{self._called(first)} has {self.rows} rows, and {', '.join(others)}" if others else ""

    def _called(self, name: str) -> str:
        return f"`{name}`" if self._named else f"input {int(name) + 1}"


def _moved(torch: Any, value: Any, device: Any) -> Any:
    if issubclass(type(value), torch.Tensor):
        return value.to(device)
    return {name: _moved(torch, part, device) for name, part in value.items()} if type(value) is dict else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (type(value) in (list, tuple) and value != [] and all(map(_is_text, value)))


def _shape(value: Any, dimension: int) -> str:
    sizes: Sequence[int] = [size for place, size in enumerate(value.shape) if place != dimension]
    return "×".join(map(str, sizes)) or "1"


def a(kind: str) -> str:
    """The name of a class with its article."""
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"
