"""What a kernel leaves behind that was killed: which cell ran, and how much memory it had before.

A killed process can say nothing, so each cell is noted before it runs, in a small file beside the kernel's connection file. That file keeps
its name when the kernel is started again, and goes when a kernel ends as it should.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfdiag_ipython.shell.journal import fault

SUFFIX = ".tfdiag"
SIZE = 1024
"""Bytes of the file, whatever the cell."""
LONG = 1.0
"""Seconds that a cell must have run for the system's count of killed processes to be read again."""


class Crumb:
    """The file of one kernel: a cell that runs, or blank. Opened when the first cell begins; two short system calls a cell."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = self._memory = -1
        self._fixed: dict[str, Any] = {}
        self._process = os.getpid()

    @classmethod
    def of(cls, shell: Any) -> Crumb | None:
        """The one of this shell's kernel; ``None`` in a terminal, which shows by itself what became of its program."""
        application = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
        if application is None or getattr(shell, "kernel", None) is None or not application.initialized():
            return None
        connection = getattr(application.instance(), "abs_connection_file", "")
        return cls(Path(connection).with_suffix(SUFFIX)) if connection and hasattr(os, "pwrite") else None

    def take(self) -> Mapping[str, Any] | None:
        """What the kernel before this one was doing when it was ended; told once."""
        try:
            text = self.path.read_text(encoding="utf-8")
            self.path.unlink()
            found = json.loads(text) if text.startswith("{") else None
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("process") != self._process else None

    def begin(self, source: str, number: int) -> None:
        """A cell begins."""
        if self._file < 0 and not self._open():
            return
        line = next((line for line in source.splitlines() if line.strip()), "")[:100]
        noted = {"cell": number, "line": line, "resident": self._resident(), **self._fixed}
        os.pwrite(self._file, json.dumps(noted).encode().ljust(SIZE), 0)

    def end(self, seconds: float) -> None:
        """It has ended, well or not: the kernel lives."""
        if self._file < 0:
            return
        os.pwrite(self._file, b" ", 0)
        if seconds > LONG:
            self._count()

    def close(self) -> None:
        """The kernel ends as it should, or tfdiag is unloaded; a process that was forked from it has no part in this."""
        atexit.unregister(self.close)
        if self._file < 0 or os.getpid() != self._process:
            return
        for file in (self._file, self._memory):
            if file >= 0:
                os.close(file)
        self._file = self._memory = -1
        self.path.unlink(missing_ok=True)

    def _open(self) -> bool:
        if not self.path.parent.is_dir():
            return False
        self._sweep()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        atexit.register(self.close)
        try:
            self._memory = os.open("/proc/self/statm", os.O_RDONLY)
        except OSError:  # not Linux
            self._memory = -1
        self._count()
        return True

    def _sweep(self) -> None:
        """Remove what kernels left that are gone for good: their connection files are."""
        for file in self.path.parent.glob(f"kernel-*{SUFFIX}*"):
            if file.stem != self.path.stem and not file.with_suffix(".json").exists():
                file.unlink(missing_ok=True)

    def _count(self) -> None:
        from tfdiag_ipython import host_memory

        host = host_memory.look()
        self._fixed = {
            "process": self._process,
            "total": host.total,
            "limit": host.group_limit,
            "killed": host_memory.killed(),
        }

    def _resident(self) -> int | None:
        if self._memory < 0:
            return None
        return int(os.pread(self._memory, 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def predecessor(crumb: Crumb | None) -> Mapping[str, Any] | None:
    """The note of the kernel before, with the system's count of killed processes as it is now."""
    try:
        found = crumb.take() if crumb is not None else None
    except Exception:
        fault("What the kernel before left could not be read.")
        return None
    if found is None:
        return None
    from tfdiag_ipython import host_memory

    return {**found, "killed_since": host_memory.killed()}
