"""The rows of a data set, one after the other, without using up what can be read only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.probes._host_indices import is_batch

BLOCK = 1_000
"""Rows of a column store (``datasets.Dataset``) that are read at a time."""


class NoColumns(LookupError):
    """A row without named columns."""


@dataclass(frozen=True)
class Unread:
    """A row that raised when it was asked for, and what it said."""

    why: str


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

    def __iter__(self) -> Iterator[Mapping[str, Any] | Unread]:
        """The columns of each row, or why it cannot be read; raises ``LookupError`` where the first row is no mapping."""
        for start in range(0, self.total, BLOCK):
            numbers = range(start, min(start + BLOCK, self.total))
            block = self._block(numbers) if self._columns and self._table is None else None
            for number in numbers:
                try:
                    if self._table is not None:
                        yield {key: self._table[key][number] for key in self._columns}
                    elif block is not None:
                        yield {key: block[key][number - start] for key in self._columns}
                    else:
                        yield self._row(number)
                except LookupError as error:
                    if isinstance(error, NoColumns) and not number:
                        raise
                    yield Unread(told(error))
                except Exception as error:  # the data set's own code may do anything
                    yield Unread(told(error))

    def _block(self, numbers: range) -> Any:
        """Many rows at once; ``None`` where one of them cannot be read, and they are asked for one by one."""
        try:
            return self._held[numbers.start : numbers.stop]
        except Exception:
            return None

    def _row(self, number: int) -> Mapping[str, Any]:
        row = self._held[number]
        fields = getattr(row, "data", None) if is_batch(type(row)) else row
        if not isinstance(fields, Mapping):
            said = f"row {number} of `{self._name}` is a {type(row).__name__}"
            raise NoColumns(f"{said}: only rows with named columns (dictionaries) can be checked")
        return fields


def told(error: Exception) -> str:
    """The exception in one line."""
    try:
        message = " ".join(str(error).split())[:120]
    except Exception:  # a hostile __str__
        message = "no message"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


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
