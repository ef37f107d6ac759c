"""Smallest and largest value of index tensors, remembered so that a device is asked as seldom as possible.

Reading a value from a CUDA device waits for all that was launched before. So the range of a tensor is taken where it is free: of the
copy in host memory when it moves to the device. From there it follows the tensor through views, copies, shifts and padding, whose values
are some of the same. Only what a range cannot decide is read.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.probes.index_checks import IGNORED


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


LARGEST_SOURCE = 2**20
"""Elements of a tensor that is read because others take their values from it."""
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
    """What is known of tensors on devices. It keeps no tensor alive, and believes no range of one that was changed since.

    A change is what PyTorch counts (``Tensor._version``): what is written past it, through ``.data`` or ``numpy()``, is not seen.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, int, Range]] = {}  # by identity: a weak reference, the version, its range
        self._sources: dict[
            int, tuple[Any, int, Any, int]
        ] = {}  # the same of a tensor, and of the one that it took its values from
        self.reads = 0

    def bounds(self, tensor: Any) -> Range | None:
        """Bounds that are known without asking the device: the tensor's own, or those of the one that its values come from."""
        own = self._look_up(tensor)
        return own if own is not None else self._look_up(self._source(tensor))

    def measured(self, tensor: Any) -> Iterator[Range]:
        """Ranges read from the device and remembered: of the tensor that the values come from, and then the exact one.

        A model's buffer of positions outlives the step, and all later views of it are known by it.
        """
        source = self._source(tensor)
        for one in (source, tensor) if source is not tensor and source.numel() <= LARGEST_SOURCE else (tensor,):
            self.reads += 1
            found = read(one)
            self.remember(one, found)
            yield found

    def remember(self, tensor: Any, found: Range) -> None:
        if not tensor.is_inference():  # such a tensor does not count its changes
            self._known[id(tensor)] = (self._reference(tensor), tensor._version, found)

    def take_from(self, tensor: Any, source: Any) -> None:
        """Note that this tensor's values are some of the other one's."""
        known = self.bounds(source)
        if tensor.dtype != source.dtype and not holds(tensor, source, known):
            return
        if known is not None:
            self.remember(tensor, known)
            return
        source = self._source(source)
        if not tensor.is_inference() and not source.is_inference():
            entry = (self._reference(tensor), tensor._version, weakref.ref(source), source._version)
            self._sources[id(tensor)] = entry

    def _source(self, tensor: Any) -> Any:
        """The tensor that this one's values were taken from, if it is alive and as it was; else the base that it is a view of."""
        entry = self._sources.get(id(tensor))
        if entry is not None:
            reference, version, source, its_version = entry
            found = source()
            if (
                found is not None
                and reference() is tensor
                and (version, its_version) == (tensor._version, found._version)
            ):
                return found
        base = tensor._base if tensor._is_view() else None
        return tensor if base is None or base.dtype != tensor.dtype else base

    def _reference(self, tensor: Any) -> weakref.ref[Any]:
        identity = id(tensor)

        def gone(_: object) -> None:
            self._known.pop(identity, None)
            self._sources.pop(identity, None)

        return weakref.ref(tensor, gone)

    def _look_up(self, tensor: Any) -> Range | None:
        entry = self._known.get(id(tensor))
        if entry is None:
            return None
        reference, version, found = entry
        return found if reference() is tensor and version == tensor._version else None


def holds(tensor: Any, source: Any, known: Range | None) -> bool:
    """Whether values of this range are the same in another type."""
    bits, more = 8 * tensor.element_size() - 1, tensor.element_size() - source.element_size()
    if tensor.dtype.is_signed and (more > 0 or (more == 0 and source.dtype.is_signed)):
        return True
    if known is None or (tensor.element_size() == 1 and not tensor.dtype.is_signed):  # also of truth values
        return False
    return known.within(-(2**bits), 2**bits - 1, None)


def on_device(tensor: Any) -> bool:
    return not tensor.is_floating_point() and tensor.device.type != "cpu"
