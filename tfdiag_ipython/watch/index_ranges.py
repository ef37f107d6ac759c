"""Smallest and largest value of index tensors, remembered so that a device is asked as seldom as possible.

Reading a value from a CUDA device waits for all that was launched before. So the range of a tensor is taken where it is free: of the
copy in host memory when it moves to the device. From there it follows the tensor through views, copies, shifts and padding, whose values
are some of the same. Only what a range cannot decide is read.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.watch.guarded_functions import Place

IGNORED = -100
"""The value that losses pass over (``ignore_index`` of ``nn.functional.cross_entropy``): kept apart from the range."""


@dataclass(frozen=True)
class Range:
    """Bounds of a tensor's values other than ``IGNORED``, and whether that is among them; ``low > high`` where there are no others."""

    low: int
    high: int
    ignored: bool = False

    def within(self, low: int, high: int, ignore: int | None) -> bool:
        """Whether every value lies in ``low`` to ``high`` or is ignored."""
        others = self.low > self.high or (low <= self.low and self.high <= high)
        return others and (not self.ignored or ignore == IGNORED or low <= IGNORED <= high)

    def joined(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high), self.ignored or other.ignored)


NOTHING = Range(2**63 - 1, -(2**63))


def read(tensor: Any) -> Range:
    """The range of an integer tensor; one transfer, and so one wait, where it lies on a device."""
    import torch

    if tensor.numel() == 0:
        return NOTHING
    with torch.no_grad():
        if tensor.device.type == "cpu":
            low, high = (int(value) for value in torch.aminmax(tensor))
            if low > IGNORED or high < IGNORED:
                return Range(low, high)
        values = tensor.long()
        kept = values != IGNORED
        least = values.where(kept, NOTHING.low).amin()
        most = values.where(kept, NOTHING.high).amax()
        low, high, ignored = torch.stack((least, most, (~kept).any().long())).tolist()
    return Range(low, high, bool(ignored))


class Ranges:
    """What is known of tensors on devices. It keeps no tensor alive, and believes no range of one that was changed since."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], int, Range]] = {}
        self.reads = 0

    def bounds(self, tensor: Any) -> Range | None:
        """Bounds that are known without asking the device: the tensor's own, or those of the tensor that it is a view of."""
        own = self._look_up(tensor)
        if own is not None or not tensor._is_view():
            return own
        return self._look_up(tensor._base)

    def measured(self, tensor: Any) -> Range:
        """The exact range, read from the device and remembered; of a view of a tensor of like size, that one's first."""
        self.reads += 1
        found = read(tensor)
        self.remember(tensor, found)
        return found

    def remember(self, tensor: Any, found: Range) -> None:
        if tensor.is_inference():  # such a tensor does not count its changes
            return
        identity = id(tensor)
        gone = weakref.ref(tensor, lambda _: self._known.pop(identity, None))
        self._known[identity] = (gone, tensor._version, found)

    def _look_up(self, tensor: Any) -> Range | None:
        entry = self._known.get(id(tensor))
        if entry is None:
            return None
        reference, version, found = entry
        return found if version == tensor._version and reference() is tensor else None


Follow = Callable[[Ranges, Any, tuple[Any, ...], Mapping[str, Any]], None]


_MOVED = ("to", "cuda", "type")
_SAME = (
    *("long", "int", "contiguous", "clone", "detach", "view", "reshape", "flatten", "unsqueeze", "squeeze", "expand"),
    *("expand_as", "repeat", "transpose", "permute", "t", "narrow", "roll", "__getitem__"),
)
_PARTS = ("chunk", "split", "unbind")


def followers(torch: Any) -> dict[Place, Follow]:
    """For the functions through which indices come to their use: what the result's range is, given the result and the arguments."""
    tensor = torch.Tensor
    table: dict[Place, Follow] = {(tensor, name): _moved for name in _MOVED}
    table |= {(tensor, name): _same for name in _SAME} | {(tensor, name): _parts for name in _PARTS}
    table |= {(torch, name): _same for name in ("reshape", "flatten", "clone", "roll")}
    table |= {(torch, name): _parts for name in _PARTS} | {(torch, name): _joined for name in ("cat", "stack")}
    table |= {(torch._C._nn, "pad"): _padded, (torch, "arange"): _counted}
    return {place: follow for place, follow in table.items() if hasattr(*place)}


def _moved(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    source = args[0]
    if not _on_device(result) or source.is_floating_point():
        return
    if source.device.type == "cpu":
        ranges.remember(result, read(source))
    else:
        _same(ranges, result, args, kwargs)


def _same(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if _on_device(result) and (known := ranges.bounds(args[0])) is not None:
        ranges.remember(result, known)


def _parts(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    for part in result:
        _same(ranges, part, args, kwargs)


def _joined(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if not _on_device(result):
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
    known = ranges.bounds(args[0]) if args and _on_device(result) else None
    if known is None or mode != "constant":
        return
    filled = int(value or 0)
    ranges.remember(
        result, known.joined(Range(NOTHING.low, NOTHING.high, True) if filled == IGNORED else Range(filled, filled))
    )


def _counted(ranges: Ranges, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """``torch.arange`` says its values itself."""
    if not _on_device(result) or not result.numel() or {"start", "end", "step"} & set(kwargs) or len(args) > 3:
        return
    start, step = (args[0], args[2] if len(args) == 3 else 1) if len(args) > 1 else (0, 1)
    if type(start) is int and type(step) is int:
        ends = (start, start + step * (result.numel() - 1))
        ranges.remember(result, Range(min(ends), max(ends), min(ends) <= IGNORED <= max(ends)))


def _on_device(tensor: Any) -> bool:
    return not tensor.is_floating_point() and tensor.device.type != "cpu"
