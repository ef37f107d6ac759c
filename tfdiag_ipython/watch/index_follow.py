"""What is known of a tensor of indices after a call, given what was known before it: most indices come from the host or from constants.

Copies, views and parts hold some of the same values; of sums, products and comparisons the ends can be computed. Sources: the functions'
pages in PyTorch's documentation, and the steps by which transformers 4.57 and 5.23 make positions, masks and shifted labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tfdiag_ipython.watch.guarded_functions import Place
from tfdiag_ipython.watch.index_ranges import IGNORED, NOTHING, Range, Ranges, on_device, read

LARGEST = 2**31
"""Beyond, numbers of 32 bits run over."""
Follow = Callable[[Ranges, Any, tuple[Any, ...], Mapping[str, Any]], None]
_MOVED = ("to", "cuda", "type", "type_as")
_SAME = (
    *("long", "int", "contiguous", "clone", "detach", "view", "reshape", "flatten", "unsqueeze", "squeeze", "expand"),
    *("expand_as", "repeat", "transpose", "permute", "t", "narrow", "roll", "flip", "__getitem__"),
    *("gather", "index_select", "take_along_dim"),
)
_PARTS = ("chunk", "split", "unbind")
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
_ADDED = ("add", "__add__", "__radd__")
_MULTIPLIED = ("mul", "__mul__", "__rmul__")


def followers(torch: Any) -> dict[Place, Follow]:
    """For the functions through which indices come to their use: what the result's range is, given the result and the arguments."""
    tensor = torch.Tensor
    table: dict[Place, Follow] = {}
    for owner in (tensor, torch):
        for names, follow in (
            (_MOVED, _moved),
            (_SAME, _same),
            (_PARTS, _parts),
            (_COMPARED, _compared),
            (_ADDED, _added),
            (_MULTIPLIED, _multiplied),
            (("cumsum",), _summed_up),
            (("zeros", "zeros_like", "new_zeros"), _zeros),
            (("ones", "ones_like", "new_ones"), _ones),
            (("full", "full_like", "new_full"), _full),
            (("masked_fill_", "__setitem__"), _written),
            (("add_", "__iadd__"), _added_in_place),
        ):
            table |= {(owner, name): follow for name in names if owner is tensor or not name.startswith("__")}
    table |= {(torch, name): _joined for name in ("cat", "stack")}
    table |= {(torch._C._nn, "pad"): _padded, (torch, "arange"): _counted}
    return {(owner, name): follow for (owner, name), follow in table.items() if callable(getattr(owner, name, None))}


def _moved(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    source = args[0]
    if not on_device(result) or source.is_floating_point():
        return
    if on_device(source):
        _same(ranges, result, args, kwargs)
    else:
        ranges.remember(result, read(source))


def _same(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if on_device(result):
        ranges.take_from(result, args[0] if args else kwargs["input"])


def _compared(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if on_device(result):
        ranges.remember(result, Range(0, 1))


def _added(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if kwargs or not on_device(result):  # `alpha` multiplies
        return
    one, other = (_span(ranges, part) for part in args)
    if one is not None and other is not None:
        _remember_span(ranges, result, one[0] + other[0], one[1] + other[1])


def _multiplied(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if not on_device(result) or len(args) != 2:
        return
    one, other = (_span(ranges, part) for part in args)
    if one is not None and other is not None:
        ends = [first * second for first in one for second in other]
        _remember_span(ranges, result, min(ends), max(ends))


def _zeros(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if on_device(result):
        ranges.remember(result, Range(0, 0))


def _ones(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if on_device(result):
        ranges.remember(result, Range(1, 1))


def _full(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    value = kwargs.get("fill_value", args[-1] if args else None)
    if on_device(result) and type(value) is int:
        ranges.remember(result, _only(value))


def _written(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """``x[index] = value`` and ``x.masked_fill_(mask, value)``."""
    target, value = args[0], args[2] if len(args) > 2 else kwargs.get("value")
    before = ranges.before(target) if on_device(target) else None
    known = _only(value) if type(value) is int else ranges.bounds(value)
    if before is not None and known is not None:
        ranges.remember(target, before.joined(known))


def _added_in_place(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    before = ranges.before(result) if on_device(result) and not kwargs else None
    one, other = _ends(before), _span(ranges, args[1])
    if one is not None and other is not None:
        _remember_span(ranges, result, one[0] + other[0], one[1] + other[1])


def _summed_up(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """A sum of up to n values between low and high lies between n·low and n·high, or is one of the first."""
    span = _span(ranges, args[0]) if args and on_device(result) else None
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    if span is not None and type(dim) is int and result.dim():
        count = int(result.shape[dim])
        _remember_span(ranges, result, min(span[0], count * span[0]), max(span[1], count * span[1]))


def _only(value: int) -> Range:
    return Range(NOTHING.low, NOTHING.high, True) if value == IGNORED else Range(value, value)


def _span(ranges: Ranges, part: Any) -> tuple[int, int] | None:
    """Smallest and largest value of a number or of a tensor of integers, as far as they are known."""
    if type(part) is int:
        return part, part
    return _ends(ranges.bounds(part)) if on_device(part) else None


def _ends(known: Range | None) -> tuple[int, int] | None:
    if known is None or known.low > known.high:
        return None
    return (min(known.low, IGNORED), max(known.high, IGNORED)) if known.ignored else (known.low, known.high)


def _remember_span(ranges: Ranges, result: Any, low: int, high: int) -> None:
    if low > -LARGEST and high < LARGEST:  # beyond, numbers of 32 bits run over
        ranges.remember(result, Range(low, high, low <= IGNORED <= high))


def _parts(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    for part in result:
        _same(ranges, part, args, kwargs)


def _joined(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if not on_device(result):
        return
    joined = NOTHING
    for one in args[0] if args else kwargs["tensors"]:
        known = ranges.bounds(one)
        if known is None:
            return
        joined = joined.joined(known)
    ranges.remember(result, joined)


def _padded(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    value = args[3] if len(args) > 3 else kwargs.get("value", None)
    known = ranges.bounds(args[0]) if args and on_device(result) else None
    if known is None or mode != "constant":
        return
    ranges.remember(result, known.joined(_only(int(value or 0))))


def _counted(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """``torch.arange`` says its values itself."""
    if not on_device(result) or not result.numel() or {"start", "end", "step"} & set(kwargs) or len(args) > 3:
        return
    start, step = (args[0], args[2] if len(args) == 3 else 1) if len(args) > 1 else (0, 1)
    if type(start) is int and type(step) is int:
        ends = (start, start + step * (result.numel() - 1))
        ranges.remember(result, Range(min(ends), max(ends), min(ends) <= IGNORED <= max(ends)))
