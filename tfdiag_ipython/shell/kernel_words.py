"""What CUDA kernels print on file descriptor 2 when they assert, which no exception repeats.

In a notebook, ipykernel (6 and 7, on Linux and macOS) has put a pipe in the place of descriptors 1 and 2: a thread reads it and
writes what it read to the stream, and from there to the stream's ``echo``, a file-like object that the constructor takes. That is where
tfdiag listens. No descriptor is touched: output is neither delayed nor reordered, and children write where they wrote before.
In a terminal, on Windows, and where a kernel does not watch its descriptors, there is no such place: the words stand on the screen, and
tfdiag does not know them.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure

MOST = 8
"""Different assertions that are kept."""
LINE_LIMIT = 500
WAIT = 0.25
"""Seconds that the reading thread gets after a device-side assert, whose words are in the pipe by then."""
_LINE = re.compile(r"(?<![^\s:])[^\s:]+\.cuh?:\d{1,7}: [^\n]{0,300}?[Aa]ssertion (?P<words>[^\n]{1,300}?) ?failed")
_ASSERTED = re.compile(r"device-side assert", re.IGNORECASE)
_FROM_CUDA = re.compile(
    r"device-side assert|illegal memory access|unspecified launch failure|CUBLAS_STATUS|cuDNN error|CUDNN_STATUS",
    re.IGNORECASE,
)
"""What an assertion ends in, at once or in a later call. Not memory that ran out, which it does not cause."""
_TYPES = ("builtins.RuntimeError", "builtins.Exception", "builtins.BaseException")
"""As PyTorch raises an assertion where it does learn of it."""


class KernelWords:
    """The newest assertions that C code wrote to descriptor 2, from ``listen`` to ``stop``."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._echo: _Echo | None = None

    def listen(self) -> None:
        """Begin; nothing happens where nobody reads the descriptor."""
        stream: Any = sys.stderr
        iostream = sys.modules.get("ipykernel.iostream")
        reader = getattr(stream, "watch_fd_thread", None)
        if iostream is None or not isinstance(stream, iostream.OutStream) or not isinstance(reader, threading.Thread):
            return
        self._stream, self._echo = stream, _Echo(getattr(stream, "echo", None), reader)
        stream.echo = self._echo

    def stop(self) -> None:
        """Leave the stream as it was; an echo that was put over this one since goes on through it."""
        if self._echo is not None:
            if self._stream.echo is self._echo:
                self._stream.echo = self._echo.before
            self._echo.hears = False
        self._stream = self._echo = None

    def added_to(self, failure: Failure) -> Failure:
        """The failure with the kernels' words at the end of its chain, where it came from CUDA and there are such words."""
        if self._echo is None or not failure.says(_FROM_CUDA):
            return failure
        until = time.monotonic() + (WAIT if failure.says(_ASSERTED) else 0)
        while not self._echo.lines and time.monotonic() < until:
            time.sleep(0.01)
        from tfdiag_ipython.failure import Raised

        lines = list(self._echo.lines.values())
        if not lines:
            return failure
        words = Raised(_TYPES, "\n".join(reversed(lines)), relation="embedded")
        return replace(failure, chain=(*failure.chain, words))


class _Echo:
    """The stream's ``echo``: passes all on to the one before it, and keeps assertions that the reading thread brings.

    There is no lock: a child that is forked in the middle of a write must not wait for one.
    """

    def __init__(self, before: Any, reader: threading.Thread) -> None:
        self.before = before
        self.hears = True
        self.lines: dict[str, str] = {}
        """Each assertion's last line, by its words, the newest last."""
        self._reader = reader
        self._rest = ""

    def write(self, text: str) -> None:
        if self.before is not None:
            self.before.write(text)
        if self.hears and threading.get_ident() == self._reader.ident:
            self._hear(text)

    def flush(self) -> None:
        if self.before is not None:
            self.before.flush()

    def read(self) -> str:
        """An echo has this method, or ipykernel takes it for none."""
        return ""

    def _hear(self, text: str) -> None:
        whole, _, rest = (self._rest + text).rpartition("\n")
        self._rest = rest[-LINE_LIMIT:]
        if "ssertion" not in whole:
            return
        for found in _LINE.finditer(whole):
            self.lines.pop(found["words"], None)
            self.lines[found["words"]] = found[0][-LINE_LIMIT:]
            if len(self.lines) > MOST:
                del self.lines[next(iter(self.lines))]
