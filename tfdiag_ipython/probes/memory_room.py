"""How many bytes a step may take where it runs, and who says so; on the host, a limit that really refuses while a step is tried."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdiag_ipython.sizes import memory_size

RESERVE = 0.05
"""Part of the host's free memory that is left alone: who takes the last of it is ended, not refused."""

OWN_FREEZE = 1000
"""Objects from which on the person must have frozen them: Python 3.12 begins with a few hundred."""


@dataclass(frozen=True)
class Room:
    """``free``: bytes that may be taken now; ``told``: where that number is from, for people."""

    free: int
    told: str


def room_on(torch: Any, device: Any) -> Room:
    """What is free on this device; raises ``LookupError`` where nobody says."""
    if device.type == "cuda":
        return _cuda_room(torch, device)
    rooms = [room for room in (_address_space(), _control_group(), _free_on_the_host()) if room is not None]
    if not rooms:
        raise LookupError("this system does not say how much memory is free: give a limit, such as `--memory 8GiB`")
    return min(rooms, key=lambda room: room.free)


def enforced(device: Any) -> bool:
    """Whether memory beyond the room is really refused there."""
    return bool(device.type != "cpu" or sys.platform == "linux")


@contextlib.contextmanager
def bounded(device: Any, free: int | None) -> Iterator[None]:
    """On a Linux host, memory beyond ``free`` more bytes is refused with an exception: else the system would end the program."""
    used = _address_space_used()
    if device.type != "cpu" or used is None or free is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    tightest = min((limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY), default=used + free)
    resource.setrlimit(resource.RLIMIT_AS, (min(tightest, used + free), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def few_looked_through() -> Iterator[None]:
    """Garbage is collected once, and then among what comes after it only: a whole notebook's objects take half a second each time."""
    gc.collect()
    frozen = gc.get_freeze_count() < OWN_FREEZE
    try:
        if frozen:
            gc.freeze()
        yield
    finally:
        if frozen:
            gc.unfreeze()


def give_back() -> None:
    """Have the C library return freed memory to the system, where it is glibc: other ones have no such call."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _cuda_room(torch: Any, device: Any) -> Room:
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    room = Room(free + reserved - allocated, f"free on {device} of {memory_size(total)}")
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)(device)  # since torch 2.7
    allowed = int(total * fraction) - allocated
    return room if fraction >= 1 or room.free <= allowed else Room(allowed, f"this process's share of {device}")


def _address_space_used() -> int | None:
    if sys.platform != "linux":
        return None
    import resource

    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _address_space() -> Room | None:
    used = _address_space_used()
    if used is None:
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else Room(max(soft - used, 0), "this process's limit (RLIMIT_AS)")


def _free_on_the_host() -> Room | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return Room(int(int(line.split()[1]) * 1024 * (1 - RESERVE)), "free on the host, less a twentieth")
    return None


def _control_group() -> Room | None:
    """The limit of the container, version 2 and 1 of control groups; file cache that can be given up counts as free."""
    for folder, limit_name, used_name, cache_name in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = (_lines(f"{folder}/{name}")[:1] for name in (limit_name, used_name))
        if limit and used and limit[0].isdigit() and used[0].isdigit() and int(limit[0]) < 2**60:
            cache = [line.split()[1] for line in _lines(f"{folder}/memory.stat") if line.startswith(f"{cache_name} ")]
            free = int(limit[0]) - int(used[0]) + sum(map(int, cache))
            return Room(int(max(free, 0) * (1 - RESERVE)), "free in this container, less a twentieth")
    return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
