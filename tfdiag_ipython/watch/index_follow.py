"""What is known of a tensor of indices after a call, given what was known before it: most indices come from the host or from constants.

Copies, views and parts hold some of the same values; of sums, products and comparisons the ends can be computed. Sources: the functions'
pages in PyTorch's documentation, and the steps by which transformers 4.57 and 5.23 make positions, masks and shifted labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.probes.index_checks import IGNORED, Place
from tfdiag_ipython.watch.index_ranges import NOTHING, Range, Ranges, holds, on_device, read

LARGEST = 2**31
"""Beyond, numbers of 32 bits run over."""
Before = Callable[[Ranges, tuple[Any, ...]], Any]
After = Callable[[Ranges, Any, tuple[Any, ...], Mapping[str, Any], Any], None]


@dataclass(frozen=True)
class Step:
    """What is known after a call (given the result, the arguments, and what ``before`` returned, which comes before the call)."""

    after: After
    before: Before | None = None


_CONVERTED = ("to", "cuda", "type", "type_as", "long", "int")
_SAME = (
    *("contiguous", "clone", "detach", "view", "reshape", "flatten", "unsqueeze", "squeeze", "expand", "expand_as"),
    *("repeat", "transpose", "permute", "t", "narrow", "roll", "flip", "__getitem__"),
    *("gather", "index_select", "take_along_dim"),
)
_PARTS = ("chunk", "split", "unbind")
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
_ADDED = ("add", "__add__", "__radd__")
_MULTIPLIED = ("mul", "__mul__", "__rmul__")


def followers(torch: Any) -> dict[Place, Step]:
    """For the functions through which indices come to their use: what is known of the result."""
    tensor = torch.Tensor
    table: dict[Place, Step] = {}
    for owner in (tensor, torch):
        for names, step in (
            (_CONVERTED, Step(_converted)),
            (_SAME, Step(_same)),
            (_PARTS, Step(_parts)),
            (_COMPARED, Step(_compared)),
            (_ADDED, Step(_added)),
            (_MULTIPLIED, Step(_multiplied)),
            (("cumsum",), Step(_summed_up)),
            (("zeros", "zeros_like", "new_zeros"), Step(_zeros)),
            (("ones", "ones_like", "new_ones"), Step(_ones)),
            (("full", "full_like", "new_full"), Step(_full)),
            (("masked_fill_", "__setitem__"), Step(_written, _known)),
            (("add_", "__iadd__"), Step(_added_in_place, _known)),
        ):
            table |= {(owner, name): step for name in names if owner is tensor or not name.startswith("__")}
    table |= {(torch, name): Step(_joined) for name in ("cat", "stack")}
    table |= {(torch._C._nn, "pad"): Step(_padded), (torch, "arange"): Step(_counted)}
    return {(owner, name): step for (owner, name), step in table.items() if callable(getattr(owner, name, None))}


def _known(ranges: Ranges, args: tuple[Any, ...]) -> Range | None:
    """The range of what a call is about to change."""
    return ranges.bounds(args[0]) if on_device(args[0]) else None


def _converted(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    source = args[0]
    if not on_device(result) or source.is_floating_point():
        return
    if on_device(source):
        ranges.take_from(result, source)
        return
    found = read(source)
    if result.dtype == source.dtype or holds(result, source, found):
        ranges.remember(result, found)


def _same(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    source = args[0] if args else kwargs["input"]
    if on_device(result) and result.dtype == source.dtype and "out" not in kwargs:
        ranges.take_from(result, source)


def _parts(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    for part in result:
        _same(ranges, part, args, kwargs, None)


def _compared(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    if on_device(result) and "out" not in kwargs:
        ranges.remember(result, Range(0, 1))


def _added(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    if not kwargs and _whole(result):  # `alpha` multiplies
        one, other = (_span(ranges, part) for part in args)
        if one is not None and other is not None:
            _remember(ranges, result, one[0] + other[0], one[1] + other[1])


def _multiplied(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    if not kwargs and _whole(result):
        one, other = (_span(ranges, part) for part in args)
        if one is not None and other is not None:
            ends = [first * second for first in one for second in other]
            _remember(ranges, result, min(ends), max(ends))


def _summed_up(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    """A sum of up to n values between low and high lies between n·low and n·high, or is one of the first."""
    span = _span(ranges, args[0]) if args and _whole(result) and "out" not in kwargs else None
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    if span is not None and type(dim) is int and result.dim():
        count = int(result.shape[dim])
        _remember(ranges, result, min(span[0], count * span[0]), max(span[1], count * span[1]))


def _zeros(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    if _whole(result) and "out" not in kwargs:
        ranges.remember(result, Range(0, 0))


def _ones(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    if _whole(result) and "out" not in kwargs:
        ranges.remember(result, Range(1, 1))


def _full(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    value = kwargs.get("fill_value", args[-1] if args else None)
    if _whole(result) and type(value) is int and "out" not in kwargs:
        ranges.remember(result, _only(value))


def _counted(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    """``torch.arange`` says its values itself."""
    if not _whole(result) or not result.numel() or {"start", "end", "step", "out"} & set(kwargs) or len(args) > 3:
        return
    start, step = (args[0], args[2] if len(args) == 3 else 1) if len(args) > 1 else (0, 1)
    if type(start) is int and type(step) is int:
        ends = (start, start + step * (result.numel() - 1))
        _remember(ranges, result, min(ends), max(ends))


def _joined(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    parts = args[0] if args else kwargs["tensors"]
    if not on_device(result) or "out" in kwargs or any(part.dtype != result.dtype for part in parts):
        return
    joined = NOTHING
    for one in parts:
        known = ranges.bounds(one)
        if known is None:
            return
        joined = joined.joined(known)
    ranges.remember(result, joined)


def _padded(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
    mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    value = args[3] if len(args) > 3 else kwargs.get("value", None)
    known = ranges.bounds(args[0]) if args and _whole(result) else None
    if known is not None and mode == "constant" and (value is None or value == int(value)):
        ranges.remember(result, known.joined(_only(int(value or 0))))


def _written(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], before: Any) -> None:
    """``x[index] = value`` and ``x.masked_fill_(mask, value)``."""
    target, value = args[0], args[2] if len(args) > 2 else kwargs.get("value")
    if before is None or not _whole(target):
        return
    span = (value, value) if type(value) is int else _span(ranges, value)
    if span is not None and span[0] > -LARGEST and span[1] < LARGEST:
        known = _only(value) if type(value) is int else ranges.bounds(value)
        ranges.remember(target, before.joined(known))


def _added_in_place(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], before: Any) -> None:
    one, other = _ends(before), _span(ranges, args[1])
    if one is not None and other is not None and not kwargs and _whole(result):
        _remember(ranges, result, one[0] + other[0], one[1] + other[1])


def _whole(tensor: Any) -> bool:
    """Whether it lies on a device and holds whole numbers of 32 or 64 bits: narrower ones run over."""
    return on_device(tensor) and bool(tensor.dtype.is_signed) and int(tensor.element_size()) >= 4


def _only(value: int) -> Range:
    return Range(NOTHING.low, NOTHING.high, True) if value == IGNORED else Range(value, value)


def _span(ranges: Ranges, part: Any) -> tuple[int, int] | None:
    """Smallest and largest value of a number or of a tensor of integers, as far as they are known."""
    if type(part) is int:
        return part, part
    return _ends(ranges.bounds(part)) if on_device(part) else None


def _ends(known: Range | None) -> tuple[int, int] | None:
    if known is None or known.low > known.high:
        return None if known is None or not known.ignored else (IGNORED, IGNORED)
    return (min(known.low, IGNORED), max(known.high, IGNORED)) if known.ignored else (known.low, known.high)


def _remember(ranges: Ranges, result: Any, low: int, high: int) -> None:
    if low > -LARGEST and high < LARGEST:
        ranges.remember(result, Range(low, high, low <= IGNORED <= high))
