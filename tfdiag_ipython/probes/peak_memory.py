"""The most memory that a piece of work held, beyond what was held when it began, phase by phase: PyTorch's allocators tell it.

On CUDA the caching allocator keeps the peak. On the host the allocator reports each block to a profiler; the one used here is the
older of PyTorch's two, which writes nothing anywhere (``torch/autograd/profiler_legacy.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

NEXT = "tfdiag: next phase"
LARGEST_GROWTH = 2.0**16
"""How many times larger than the smallest step a step can be for the moments looked at."""


@dataclass(frozen=True)
class Reading:
    """Bytes held beyond what was held at the start: each phase's peak, and every moment one by one where the allocator tells them."""

    phases: tuple[int, ...]
    moments: tuple[int, ...] = ()


class Meter(Protocol):
    """``start``, then ``next_phase`` between two phases, then ``stop`` once."""

    def start(self) -> None: ...

    def next_phase(self) -> None: ...

    def stop(self) -> Reading: ...


def meter_for(torch: Any, device: Any) -> Meter:
    """Raises ``LookupError`` for a device whose peak nobody keeps."""
    if device.type == "cuda":
        return CudaMeter(torch, device)
    if device.type == "cpu":
        return HostMeter(torch)
    raise LookupError(f"the model is on {device}: a peak can be measured on CUDA and on the host only")


class CudaMeter:
    """Starts PyTorch's own peak statistics anew."""

    def __init__(self, torch: Any, device: Any) -> None:
        self._cuda = torch.cuda
        self._device = device
        self._peaks: list[int] = []

    def start(self) -> None:
        self._cuda.synchronize(self._device)
        self._cuda.reset_peak_memory_stats(self._device)
        self._before = self._cuda.memory_allocated(self._device)

    def next_phase(self) -> None:
        self._peaks.append(self._cuda.max_memory_allocated(self._device) - self._before)
        self._cuda.reset_peak_memory_stats(self._device)

    def stop(self) -> Reading:
        self.next_phase()
        return Reading(tuple(self._peaks))


class HostMeter:
    """Follows each block that PyTorch's allocator on the host gives and takes back."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._autograd = torch.autograd

    def start(self) -> None:
        from torch.autograd import profiler_legacy

        try:
            self._autograd._enable_profiler_legacy(profiler_legacy.profile(profile_memory=True).config())
        except RuntimeError:
            raise LookupError("a profiler is running, and PyTorch has one at a time: stop it first") from None

    def next_phase(self) -> None:
        with self._autograd.profiler.record_function(NEXT):
            pass

    def stop(self) -> Reading:
        peaks, moments, held = [0], [], 0
        for events in self._autograd._disable_profiler_legacy():
            for event in events:
                if event.kind() == "memory_alloc":
                    held += event.cpu_memory_usage()
                    moments.append(held)
                    peaks[-1] = max(peaks[-1], held)
                elif event.kind() == "push" and event.name() == NEXT:
                    peaks.append(held)
        return Reading(tuple(peaks), tuple(moments))


def telling(first: Reading, second: Reading, growth: float) -> tuple[int, ...]:
    """The moments that can be the peak of a larger step, going by a small one and one of ``growth`` times as many rows.

    Each moment's bytes grow by a line of its own, so that one which is nothing in a small step can be the peak of a large one: what
    backward holds of the gradients hides what it holds of the batch. None, where the two steps did not do the same.
    """
    if not first.moments or len(first.moments) != len(second.moments):
        return ()
    pairs = list(zip(first.moments, second.moments, strict=True))
    found, times = set(), growth
    while times < LARGEST_GROWTH:
        factor = (times - 1) / (growth - 1)
        grown = [before + (after - before) * factor for before, after in pairs]
        found.add(grown.index(max(grown)))
        times *= 1.3
    return tuple(sorted(found))
