"""Reads every known wording of "out of memory" into numbers (PyTorch 1.x to 2.13; CUDA, HIP, XPU, NPU, MPS, CPU allocators).

Sources: `c10/cuda/CUDACachingAllocator.cpp`, `c10/core/impl/alloc_cpu.cpp` and `aten/src/ATen/mps/MPSAllocator.mm` of PyTorch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SIZE = r"(\d+(?:\.\d+)?) ?(bytes?|[KMGT]i?B|B)\b"
_FIELDS = {
    "tried": (r"[Tt]ried to allocate " + SIZE,),
    "total": (r"total capac?i?ty of " + SIZE, SIZE + r" total capac?i?ty"),
    "free": (r"of which " + SIZE + r" is free", SIZE + r" free"),
    "allocated": (SIZE + r" already allocated", SIZE + r" is allocated by", r"MPS allocated: " + SIZE),
    "reserved": (SIZE + r" reserved in total", SIZE + r" cached"),
    "unallocated": (SIZE + r" is reserved by \w+ but unallocated",),
    "own": (r"this process has " + SIZE + r" memory in use",),
    "limit": (SIZE + r" allowed", r"max allowed: " + SIZE),
    "other": (r"other allocations: " + SIZE,),
}
_PROCESS = re.compile(r"\bProcess (\d+) has " + SIZE + r" memory in use")
_DEVICE = re.compile(r"\b(GPU|XPU|NPU)\s+(\d+)\b")
_BACKEND = re.compile(r"\b(CUDA|HIP|XPU|NPU|MPS)\b(?: backend| error)?:? out of memory", re.IGNORECASE)


@dataclass(frozen=True)
class Shortage:
    """The numbers of one message, in bytes; ``None`` where it does not say. ``others``: processes and what they hold."""

    backend: str = ""
    device: str = ""
    tried: int | None = None
    total: int | None = None
    free: int | None = None
    allocated: int | None = None
    reserved: int | None = None
    unallocated: int | None = None
    own: int | None = None
    limit: int | None = None
    other: int | None = None
    others: tuple[tuple[int, int], ...] = ()

    @property
    def room(self) -> int | None:
        """The most that this process may have: the device's memory, or the share of it that PyTorch was given."""
        return min((one for one in (self.total, self.limit) if one is not None), default=None)

    @property
    def shared_out(self) -> bool:
        """Whether it was this process's share that had no room (``set_per_process_memory_fraction``), and not the device."""
        if self.limit is None or (self.total is not None and self.limit >= self.total):
            return False
        return self.free is not None and self.tried is not None and self.free >= self.tried

    @property
    def cached(self) -> int | None:
        """Bytes that PyTorch reserved and does not use."""
        if self.unallocated is not None:
            return self.unallocated
        if self.reserved is None or self.allocated is None:
            return None
        return max(self.reserved - self.allocated, 0)

    @property
    def foreign(self) -> int | None:
        """Bytes of the device that are neither free nor this process's; only where the message tells the two apart."""
        own = self.own
        if own is None and self.allocated is not None and self.cached is not None:
            own = self.allocated + self.cached
        if own is None or self.total is None or self.free is None:
            return None
        return max(self.total - self.free - own, 0)

    @property
    def kind(self) -> str:
        """``oversized``, ``fragmented``, ``occupied`` (by others) or ``plain``: what the numbers alone can tell."""
        if self.tried is None:
            return "plain"
        if self.room is not None and self.tried > self.room:
            return "oversized"
        # some cache is always unused: only a good part of the device is worth the name
        if self.cached is not None and self.cached >= max(self.tried, (self.room or 0) // 10):
            return "fragmented"
        # a CUDA context takes some hundred MiB that PyTorch does not count: less than this is no other process
        least = max(self.tried, (self.room or 0) // 10, 2**30)
        if self.foreign is not None and self.foreign >= least and not self.shared_out:
            return "occupied"
        return "plain"


def read(message: str) -> Shortage:
    """The numbers of a message about memory."""
    values = {name: _first(message, patterns) for name, patterns in _FIELDS.items()}
    backend, device = _BACKEND.search(message), _DEVICE.search(message)
    others = tuple((int(pid), _bytes(number, unit)) for pid, number, unit in _PROCESS.findall(message))
    name = backend[1].upper() if backend else "CPU" if "CPUAllocator" in message else ""
    return Shortage(name, f"{device[1]} {device[2]}" if device else "", others=others, **values)


def _first(message: str, patterns: tuple[str, ...]) -> int | None:
    found = next((match for match in (re.search(pattern, message) for pattern in patterns) if match), None)
    return _bytes(found[1], found[2]) if found else None


def _bytes(number: str, unit: str) -> int:
    """MPS messages say GB and mean GiB, as PyTorch's others do."""
    return int(float(number) * 1024 ** " KMGT".index(unit[0] if unit[0] in "KMGT" else " "))
