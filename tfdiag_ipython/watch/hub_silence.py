"""A load from the Hub that hangs raises nothing: while a cell runs, say so once it has been silent for long."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from tfdiag_ipython.addresses import without_login
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Deadline, LiveFrame, Scene

PATIENCE = 20.0
"""Seconds of silence after which the watch speaks."""
MOST_FRAMES = 400
BODY = {"iter_bytes", "iter_raw", "generate"}
"""Functions that read a file's content: megabytes may come between two looks at the program's values, so the socket is asked.

``generate`` is the generator within ``iter_content`` of requests, which huggingface_hub 0 reads by.
"""
RECEIVED = slice(128, 136)
"""``tcpi_bytes_received`` in Linux's ``tcp_info`` (``/usr/include/linux/tcp.h``)."""
log = logging.getLogger("tfdiag")


class HubSilence:
    """A thread that looks where the cell stands, and writes one line for each request that makes it wait for ``PATIENCE`` seconds."""

    watched = "loads that hang"

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._cell = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._received: dict[object, int] = {}  # bytes by connection, at the last look

    def start(self) -> None:
        """Begin to look; the cell runs in the thread that calls this."""
        self._cell = threading.get_ident()
        here = contextvars.copy_context()  # newer kernels find the cell to which output belongs in the context
        self._thread = threading.Thread(target=here.run, args=(self._watch,), name="tfdiag-hub", daemon=True)
        self._thread.start()

    def stop(self, scene: Scene) -> list[Failure]:
        self._ended.set()
        return []

    def answers(self, finding: Failure) -> bool:
        return False

    def _watch(self) -> None:
        since, told = time.perf_counter(), False
        waits_for: tuple[Any, ...] = ()
        while not self._ended.wait(PATIENCE / 10):
            try:
                seen = self._where(waits_for)
                if seen != waits_for:
                    since, waits_for, told = time.perf_counter(), seen, False
                seconds = time.perf_counter() - since
                if seen and not told and seconds >= PATIENCE:
                    told = True
                    self._say(seconds)
            except Exception:  # the frames move on while they are read
                log.exception("The watch for silent loads could not look.")
                return

    def _where(self, before: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the load waits for: for each thread that loads the file and the bytes that have come; empty while it waits for nothing.

        Tries of the same request, and pauses between them, are one wait.
        """
        if "huggingface_hub" not in sys.modules:
            return ()
        from tfdiag_ipython.probes.hub_wait import stage

        frames = frames_of(self._cell)
        if stage(frames) != "threads":
            return self._waits(frames, before)
        each = [self._waits(worker, before) for worker in _workers(self._cell)]
        return tuple(sorted({one for wait in each for one in wait})) if all(each) else ()

    def _waits(self, frames: list[LiveFrame], before: tuple[Any, ...]) -> tuple[Any, ...]:
        from tfdiag_ipython.probes.hub_wait import details, stage

        found = stage(frames)
        if not found and frames and frames[-1].function == "http_get":
            return before  # the moment between two tries of one file
        if found in {"", "transfer", "threads"}:
            return ()  # nothing, or a download of which nothing can be seen
        if any(frame.function in BODY for frame in frames) and self._comes(_socket(frames)):
            return ()
        waited = details(frames)
        return ((waited["url"], str(waited["came"]), waited["lock"]),)

    def _comes(self, connection: socket.socket | None) -> bool:
        """Whether bytes have come on this connection since the last look at it; where the system cannot tell, they may have."""
        if connection is None or not sys.platform.startswith("linux"):
            return True
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RECEIVED.stop)
        name, count = connection.getsockname(), int.from_bytes(told[RECEIVED], sys.byteorder)
        before = self._received.get(name)
        self._received[name] = count
        return len(told) < RECEIVED.stop or (before is not None and count > before)

    def _say(self, seconds: float) -> None:
        from tfdiag_ipython.probes.hub_wait import WAITS, details, stage

        frames = frames_of(self._cell)
        facts = _asked(frames)
        waiting = next(iter(_workers(self._cell)), frames) if stage(frames) == "threads" else frames
        found = stage(waiting)
        if not found or self._ended.is_set():
            return
        waited = details(waiting)
        place = waited["place"] or str(facts.get("endpoint", "")).partition("//")[2][:80] or "the Hub"
        wanted = str(facts.get("repo", ""))[:80]
        told = f"tfdiag: silent for {seconds:.0f} s, waiting {WAITS[found].format(place=place)}"
        told += f", to load `{wanted}`" if wanted else ""
        if facts.get("complete"):
            told += "; the local cache has it: stop the cell to be told how to go offline"
        else:
            told += ": stop the cell to see why, or run `%tfdiag probe hub` after it"
        with contextlib.suppress(OSError, ValueError):  # an output that was closed
            print(f"{told}.", file=sys.stderr, flush=True)


def _workers(cell: int) -> list[list[LiveFrame]]:
    """The frames of the threads that load for the cell, such as those of ``snapshot_download``."""
    from tfdiag_ipython.probes.hub_wait import stage

    found = [frames_of(thread) for thread in list(sys._current_frames()) if thread != cell]
    return [frames for frames in found if stage(frames) or (frames and frames[-1].function == "http_get")]


def _socket(frames: list[LiveFrame]) -> socket.socket | None:
    """The connection that the innermost frames read from."""
    for frame in reversed(frames):
        owner = frame.locals.get("self")
        found = owner if isinstance(owner, socket.socket) else getattr(owner, "_sock", None)
        if isinstance(found, socket.socket):
            return found
    return None


def frames_of(thread: int) -> list[LiveFrame]:
    """The frames of a running thread, from the outermost call inwards."""
    found: list[LiveFrame] = []
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None and len(found) < MOST_FRAMES:
        found.append(LiveFrame(frame, frame.f_lineno or 0))
        frame = frame.f_back
    return found[::-1]


def _asked(frames: list[LiveFrame]) -> dict[str, Any]:
    """What is being loaded, and whether the local cache has it."""
    from tfdiag_ipython.probes.hub_cache import asked, cached

    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is None:
        return {}
    facts = asked(frames, str(constants.HF_HUB_CACHE))
    if facts["repo"]:
        facts |= cached(facts, Deadline(5.0))
    return {**facts, "endpoint": without_login(str(constants.ENDPOINT))}
