"""Free what a failed cell still holds: its frames keep every tensor that was alive when it failed."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from tfdiag_ipython import host_memory
from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.sizes import memory_size


class FreeMemory(Plan):
    """Clear the last traceback's frames and everything that holds them, delete chosen variables, collect, and empty PyTorch's caches.

    ``%tb`` still prints afterwards; ``%debug`` has no variables to show any more. ``names`` are variables, or ``Out[3]``.
    """

    undoable = False

    def __init__(self, host: Host, names: Sequence[str] = ()) -> None:
        super().__init__(host)
        self.names = tuple(names)

    def preview(self) -> Preview:
        before = _held()
        text = (
            f"{before:,} bytes held by tensors of this process"
            if before
            else "the objects that the failed cell's frames hold"
        )
        deleted = f"Deletes {_listed(self.names)} and every other name of the same objects. " if self.names else ""
        return Preview(
            "bytes",
            text,
            f"{deleted}Clears the failed cell's frames: %debug shows no variables of it any more. It cannot be undone.",
        )

    def execute(self, progress: Progress) -> str:
        before, resident = _held(), host_memory.resident()
        self.host.release()
        for name in self.names:
            self.host.delete(name)
        collect(self.host)
        self.freed = before - _held()
        what = f"{_listed(self.names)} and the failed cell" if self.names else "the failed cell"
        after = host_memory.resident()
        told = f"Freed {self.freed:,} bytes of tensors that {what} held."
        if resident is not None and after is not None:
            told += f" Resident memory: {memory_size(resident)} before, {memory_size(after)} after."
        return told

    def verify(self, progress: Progress) -> Verification:
        if self.reruns:
            return super().verify(progress)
        if self.freed > 0:
            return Verification(Status.VERIFIED, f"{self.freed:,} bytes are free again.")
        held = "Something else still holds the same tensors." if self.names else ""
        return Verification(Status.NOT_CHECKED, held or "Nothing that the failed cell alone held was found.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def clear_traceback(exception: BaseException) -> None:
    """Clear the frames of an exception and of all that hangs on it, so that their local variables can be freed.

    Through Python 3.12 a frame keeps the snapshot that reading ``f_locals`` made: reading it again empties it.
    """
    queue, seen = [exception], set()
    while queue:
        current = queue.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        trace = current.__traceback__
        traceback.clear_frames(trace)
        while trace is not None:
            if (
                trace.tb_frame.f_code.co_flags & 0x1
            ):  # CO_OPTIMIZED: a function; a module's locals are the namespace itself
                _ = trace.tb_frame.f_locals
            trace = trace.tb_next
        queue += [link for link in (current.__cause__, current.__context__) if link is not None]
        members = getattr(current, "exceptions", ())
        queue += [member for member in members if isinstance(member, BaseException)]


def collect(host: Host) -> None:
    """Collect garbage and give back what PyTorch and the C library keep; CUDA is not touched unless it is in use and alive."""
    gc.collect()
    _trim()
    cuda = cuda_in_use(host)
    if cuda is not None:
        cuda.empty_cache()


def _trim() -> None:
    """Give freed blocks of the heap back to the system: glibc keeps those below its threshold, which grows to 32 MiB with use."""
    if sys.platform != "linux":
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def cuda_in_use(host: Host) -> Any:
    """``torch.cuda`` where this process has a living context; else ``None``, and CUDA must not be touched."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() and not host.cuda_dead else None


def _held() -> int:
    """Bytes of all live tensors' storages of this process, each storage once."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return 0
    sizes: dict[int, int] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            try:
                storage = thing.untyped_storage()
                size = storage.nbytes()
                if type(size) is int:  # of a fake tensor it may be a symbol
                    sizes[storage._cdata] = size
            except Exception:  # fake, meta and wrapper tensors have no storage of their own
                continue
    return sum(sizes.values())
