"""The computer's memory as the operating system counts it: this process's part, what is left, and the limits.

Everything is read from small files of the kernel (Linux) or from psutil, where the program has loaded it; unknown numbers are ``None``.
Sources: proc(5); Linux, `Documentation/admin-guide/cgroup-v2.rst` (`memory.max`, `memory.events`) and `cgroup-v1/memory.rst`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

UNLIMITED = 2**60
"""cgroup v1 writes a number above this for "no limit"."""


@dataclass(frozen=True)
class HostMemory:
    """Bytes. ``total`` is what this process could have at most: the machine's memory or its control group's limit."""

    resident: int | None = None
    available: int | None = None
    total: int | None = None
    group_limit: int | None = None
    address_limit: int | None = None


def look() -> HostMemory:
    """The numbers of this moment."""
    fields = _meminfo()
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    psutil: Any = sys.modules.get("psutil")
    if total is None and psutil is not None:
        whole = psutil.virtual_memory()
        total, available = int(whole.total), int(whole.available)
    limit = group_limit()
    if limit is not None and (total is None or limit < total):
        total = limit
        used = _group_usage()
        left = None if used is None else max(limit - used, 0)
        available = left if available is None else available if left is None else min(available, left)
    return HostMemory(resident(), available, total, limit, _address_limit())


def resident() -> int | None:
    """Bytes of memory that this process has now."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        psutil: Any = sys.modules.get("psutil")
        return int(psutil.Process().memory_info().rss) if psutil is not None else None


def group_limit() -> int | None:
    """The smallest limit of this process's control group and of those around it (a container's, a job's)."""
    limits = [_number(folder / name) for folder in _groups() for name in ("memory.max", "memory.limit_in_bytes")]
    known = [limit for limit in limits if limit is not None and limit < UNLIMITED]
    return min(known, default=None)


def killed() -> int | None:
    """How many processes of this control group the kernel's out-of-memory killer has ended so far."""
    for folder in _groups():
        for name in ("memory.events", "memory.oom_control"):
            try:
                found = re.search(r"^oom_kill (\d+)$", (folder / name).read_text(), re.MULTILINE)
            except (OSError, ValueError):
                continue
            if found:
                return int(found[1])
    return None


@cache
def _groups() -> tuple[Path, ...]:
    """The folders of this process's control group and of those around it, the innermost first; version 2, else 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    paths = [("/sys/fs/cgroup", path) for number, names, path in parts if number == "0" and not names]
    paths += [("/sys/fs/cgroup/memory", path) for _, names, path in parts if "memory" in names.split(",")]
    return tuple(folder for root, path in paths for folder in _upwards(Path(root), path) if _has_memory(folder))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """The folder of the group and its parents; in a container the path may be the host's, and only the root is there."""
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _has_memory(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("memory.events", "memory.limit_in_bytes"))


def _group_usage() -> int | None:
    """Bytes that the innermost group holds, without the file cache that the kernel would give back."""
    for folder in _groups():
        for name in ("memory.current", "memory.usage_in_bytes"):
            used = _number(folder / name)
            if used is None:
                continue
            try:
                found = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.M)
            except (OSError, ValueError):
                found = None
            return max(used - (int(found[1]) if found else 0), 0)
    return None


def _meminfo() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return {}
    return {
        name: int(words[0]) * 1024
        for name, _, rest in (line.partition(":") for line in lines)
        if (words := rest.split()) and words[0].isdigit()
    }


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # absent, or `max`
        return None


def _address_limit() -> int | None:
    """The limit on this process's address space (``ulimit -v``)."""
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return soft if soft != resource.RLIM_INFINITY else None
