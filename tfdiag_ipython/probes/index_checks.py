"""Which argument of which function is an index, and what it may be.

Source: the functions' pages in PyTorch's documentation and what they do on a CPU (torch 2.13): embeddings, losses, ``gather``, ``scatter``,
``index_select``, ``index_add`` and ``index_copy`` take 0 to N - 1; ``x[index]``, ``take``, ``index_fill``, ``index_put`` and
``take_along_dim`` also count from the end, from -N.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Place = tuple[Any, str]
"""A module or class, and an attribute of it."""
IGNORED = -100
"""The value that losses pass over (``ignore_index`` of ``nn.functional.cross_entropy``)."""


@dataclass(frozen=True)
class Check:
    """An index tensor, its name among the arguments, the values it may have, and in words where the limit comes from."""

    argument: str
    index: Any
    low: int
    high: int
    limit: str
    ignore: int | None = None


Find = Callable[[tuple[Any, ...], Mapping[str, Any]], Iterator[Check]]


def checks(torch: Any) -> dict[Place, tuple[str, Find]]:
    """Where a function that takes indices stands: its name for people, and what finds the checks in a call's arguments.

    Of ``torch.nn.functional``'s own functions those that they call stand here, so that references to them are guarded, too.
    """
    functional, native, tensor = torch.nn.functional, torch._C._nn, torch.Tensor
    table: dict[Place, tuple[str, Find]] = {
        (torch, "embedding"): ("embedding", _rows("input", 1, "weight", 0)),
        (functional, "embedding_bag"): ("embedding_bag", _rows("input", 0, "weight", 1)),  # it flattens the ids
        (torch, "embedding_bag"): ("embedding_bag", _rows("input", 1, "weight", 0)),
        (torch, "embedding_renorm_"): ("embedding", _rows("input", 1, "weight", 0)),  # before it, with max_norm
        (native, "cross_entropy_loss"): ("cross_entropy", _target),
        (native, "nll_loss_nd"): ("nll_loss", _target),
        (functional, "one_hot"): ("one_hot", _one_hot),
        (torch, "take_along_dim"): ("take_along_dim", _along),
        (tensor, "take_along_dim"): ("take_along_dim", _along),
        (torch, "take"): ("take", _take),
        (tensor, "take"): ("take", _take),
        (tensor, "__getitem__"): ("x[index]", _item),
        (tensor, "__setitem__"): ("x[index] = …", _item),
        (torch, "index_put"): ("index_put", _item),
        (tensor, "index_put"): ("index_put", _item),
        (tensor, "index_put_"): ("index_put_", _item),
    }
    for name in (
        "gather",
        "index_select",
        "scatter",
        "scatter_add",
        "scatter_reduce",
        "index_add",
        "index_copy",
        "index_fill",
    ):
        find = _dimension(wraps=name == "index_fill")
        for owner, full in ((torch, name), (tensor, name), (tensor, f"{name}_")):
            table[owner, full] = (full, find)
    return {place: found for place, found in table.items() if hasattr(*place)}


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _rows(index: str, at: int, weight: str, weight_at: int) -> Find:
    def find(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
        table = _given(args, kwargs, weight_at, weight)
        rows = int(table.shape[0])
        yield Check(index, _given(args, kwargs, at, index), 0, rows - 1, f"`{weight}` has {rows:,} rows")

    return find


def _target(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
    scores = _given(args, kwargs, 0, "input")
    classes = int(scores.shape[1 if scores.dim() > 1 else 0])
    ignore = int(_given(args, kwargs, 4, "ignore_index", IGNORED))
    target = _given(args, kwargs, 1, "target")  # of floating point it holds probabilities, which no check looks at
    yield Check("target", target, 0, classes - 1, f"`input` has {classes:,} classes", ignore)


def _one_hot(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
    classes = int(_given(args, kwargs, 1, "num_classes", -1))
    index = _given(args, kwargs, 0, "self", kwargs.get("tensor", kwargs.get("input")))
    if classes < 0:
        yield Check("tensor", index, 0, sys.maxsize, "classes count from 0")
    else:
        yield Check("tensor", index, 0, classes - 1, f"`num_classes` is {classes:,}")


def _dimension(*, wraps: bool) -> Find:
    def find(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
        yield from _at(
            _given(args, kwargs, 0, "input"), _given(args, kwargs, 1, "dim"), _given(args, kwargs, 2, "index"), wraps
        )

    return find


def _along(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
    values, indices = _given(args, kwargs, 0, "input"), _given(args, kwargs, 1, "indices")
    dim = _given(args, kwargs, 2, "dim")
    if dim is None:  # as if it had one dimension, and without counting from the end
        count = values.numel()
        yield Check("indices", indices, 0, count - 1, f"the tensor has {count:,} entries")
    else:
        yield from _at(values, dim, indices, True, "indices")


def _take(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
    count = _given(args, kwargs, 0, "input").numel()
    yield Check("index", _given(args, kwargs, 1, "index"), -count, count - 1, f"the tensor has {count:,} entries")


def _at(values: Any, dim: Any, index: Any, wraps: bool, argument: str = "index") -> Iterator[Check]:
    if not isinstance(dim, int) or isinstance(dim, bool) or not values.dim():  # a named dimension, or a single number
        return
    size = int(values.shape[dim])
    place = dim % values.dim()
    yield Check(argument, index, -size if wraps else 0, size - 1, f"dimension {place} has {size:,} entries")


def _item(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Check]:
    """``x[index]`` takes one index per dimension: tensors and lists among ``None``, ``...``, slices, numbers and masks."""
    import torch

    values, index = args[0], _given(args, kwargs, 1, "indices")
    items = tuple(index) if _is_tuple(index, torch) else (index,)
    takes = [_takes(one, torch) for one in items]
    if None in takes:
        return
    rest = values.dim() - sum(taken or 0 for taken in takes)
    dimension = 0
    for position, (one, taken) in enumerate(zip(items, takes, strict=True)):
        if one is Ellipsis:
            dimension += rest
            continue
        found = _as_tensor(one, torch)
        if found is not None and dimension < values.dim():
            name = "index" if len(items) == 1 else f"index[{position}]"
            yield from (
                Check(name, found, check.low, check.high, check.limit) for check in _at(values, dimension, found, True)
            )
        dimension += taken or 0


def _is_tuple(index: Any, torch: Any) -> bool:
    """Whether it stands for one index per dimension: as ``treatSequenceAsTuple`` in ``torch/csrc/autograd/python_variable_indexing.cpp`` has it."""
    if isinstance(index, tuple):
        return True
    if not isinstance(index, (list, range)) or len(index) >= 32:
        return False
    several = (torch.Tensor, list, tuple, range, slice, type(None), type(Ellipsis))
    return any(
        isinstance(one, several) or (type(one).__module__ == "numpy" and getattr(one, "ndim", 0)) for one in index
    )


def _takes(one: Any, torch: Any) -> int | None:
    """How many dimensions a part of an index takes; ``None`` where that is not known."""
    if one is None or one is Ellipsis or isinstance(one, bool):
        return 0
    if isinstance(one, (int, slice)) or _integers(one):
        return 1
    kind = getattr(one, "dtype", None)
    if isinstance(one, torch.Tensor):
        return int(one.dim()) if kind in (torch.bool, torch.uint8) else 1
    if type(one).__module__ == "numpy" and hasattr(one, "ndim"):
        return int(one.ndim) if str(kind) == "bool" else 1
    return None


def _integers(one: Any) -> bool:
    """A list or range of whole numbers, of Python or of numpy."""
    return isinstance(one, (list, range)) and bool(one) and all(map(_is_integer, one))


def _is_integer(value: Any) -> bool:
    scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    return type(value) is int or (scalar and value.dtype.kind in "iu")


def _as_tensor(one: Any, torch: Any) -> Any:
    if isinstance(one, torch.Tensor):
        return None if one.dtype in (torch.bool, torch.uint8) else one
    if _integers(one):
        return torch.tensor([int(value) for value in one], device="cpu")
    array = type(one).__module__ == "numpy" and getattr(getattr(one, "dtype", None), "kind", "") in tuple("iu")
    return torch.as_tensor(one.astype("int64", copy=False), device="cpu") if array else None
