"""The rows of a data set, one after the other, without using up what can be read only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfdiag_ipython.probes._host_indices import is_batch

BLOCK = 1_000
"""Rows of a column store (``datasets.Dataset``) that are read at a time."""


class Rows:
    """A person's data set: ``total`` rows, and for each row its columns.

    Takes a ``datasets.Dataset``, a mapping of columns (a tokenizer's output), a list of dictionaries, a torch ``Dataset`` with
    ``__len__`` and ``__getitem__`` whose rows are dictionaries, and a ``DataLoader`` over one of these. Raises ``LookupError`` with one
    sentence for everything else; iterators are left as they are.
    """

    def __init__(self, held: Any, name: str, wanted: frozenset[str], torch: Any) -> None:
        data: Any = torch.utils.data
        if isinstance(held, data.DataLoader):
            held = held.dataset
        self._held, self._name = held, name
        kind = type(held)
        if hasattr(kind, "__next__") or isinstance(held, data.IterableDataset) or not hasattr(kind, "__getitem__"):
            raise LookupError(
                f"`{name}` ({kind.__name__}) can only be run through, and perhaps only once: name a data set with a length and rows that "
                "can be asked for"
            )
        inner = getattr(held, "data", None) if is_batch(kind) else held
        self._table: Mapping[str, Any] | None = inner if isinstance(inner, Mapping) else None
        self._columns: list[str] = []
        if self._table is not None:
            self._columns = [key for key in self._table if key in wanted]
            if not self._columns:
                raise LookupError(_nothing(name, self._table))
            held = self._table[self._columns[0]]
        elif isinstance(columns := getattr(held, "column_names", None), list):
            self._columns = [key for key in columns if key in wanted]
            if self._columns and getattr(held, "format", {}).get("type") == "custom":
                self._columns = []  # its rows are made when they are asked for, from all columns
            if self._columns and hasattr(held, "select_columns"):
                self._held = held.select_columns(self._columns)  # a view: pictures and texts need not be read
        if not hasattr(type(held), "__len__"):
            raise LookupError(f"`{name}` ({kind.__name__}) has no length")
        self.total = len(held)
        if not self.total:
            raise LookupError(f"`{name}` has no rows")

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The columns of each row; raises ``LookupError`` where a row is no mapping."""
        for start in range(0, self.total, BLOCK):
            numbers = range(start, min(start + BLOCK, self.total))
            if self._table is not None:
                yield from ({key: self._table[key][number] for key in self._columns} for number in numbers)
            elif self._columns:
                block = self._held[start : start + BLOCK]
                yield from ({key: block[key][number - start] for key in self._columns} for number in numbers)
            else:
                yield from map(self._row, numbers)

    def _row(self, number: int) -> Mapping[str, Any]:
        row = self._held[number]
        fields = getattr(row, "data", None) if is_batch(type(row)) else row
        if not isinstance(fields, Mapping):
            told = f"row {number} of `{self._name}` is a {type(row).__name__}"
            raise LookupError(f"{told}: only rows with named columns (dictionaries) can be checked")
        return fields


def _is_table(value: Any) -> bool:
    """Whether this is a data set of its own, as in a ``DatasetDict``, and not a column."""
    rows = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return rows or isinstance(value, Mapping) or hasattr(type(value), "column_names")


def _nothing(name: str, columns: Mapping[str, Any]) -> str:
    split = next((key for key, value in columns.items() if _is_table(value)), None)
    if split is not None:
        return f'`{name}` has splits: name one of them, such as `{name}["{split}"]`'
    listed = ", ".join(f"`{column}`" for column in list(columns)[:6])
    return f"none of the columns of `{name}` ({listed}) holds indices that this model's limits are known for"
