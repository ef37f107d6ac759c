"""Who holds memory: tensors by the name of the variable, the host's free memory, and the device's own statistics."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.errors import BudgetSpent
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.batch_size import find_batch
from tfdiag_ipython.probe import Deadline, Evidence, Probe, Scene

OBJECTS = 20_000
"""Objects looked into at most."""
DEPTH = 4
SHOWN = 5


class MemoryProbe(Probe):
    """What the failed cell's frames and the notebook's variables hold in tensors, each storage counted once.

    Facts: ``variables`` and ``frames`` (name, bytes; the largest first; a frame's variable only for what no variable of the notebook
    holds), ``frame_bytes`` (all that only the frames hold), ``available`` and ``limit`` (host bytes, ``None`` where unknown),
    ``batch`` (where the batch size is set, or empty), ``trains`` (the Trainer's training loop is in the traceback). Sizes of
    storages are known to the host: only ``torch.cuda.memory_stats`` of a living, initialized context asks the device.
    """

    name: ClassVar[str] = "memory"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        variables: list[tuple[str, int]] = []
        frames: list[tuple[str, int]] = []
        trains = False
        if torch is not None:
            walk = _Walk(torch, scene.deadline)
            public = [(name, value) for name, value in list(scene.namespace.items()) if not name.startswith("_")]
            variables = _by_size(walk, public)
            for frame in scene.frames:
                trains |= frame.file.replace("\\", "/").endswith("transformers/trainer.py")
                if frame.function != "<module>":
                    frames += _by_size(walk, list(frame.locals.items()), f"{frame.function}: ")
            frames.sort(key=lambda pair: -pair[1])
        available, limit = _host()
        facts = {
            "variables": tuple(variables[:SHOWN]),
            "frames": tuple(frames[:SHOWN]),
            "frame_bytes": sum(number for _, number in frames),
            "available": available,
            "limit": limit,
            "batch": find_batch(scene.cells),
            "trains": trains,
        }
        seen = [
            Observation(f"`{name}`", f"{number:,} bytes of tensors", where)
            for held, where in ((variables, "variables of the notebook"), (frames, "frames of the failed cell"))
            for name, number in held[:SHOWN]
        ]
        if available is not None:
            seen.append(Observation("host memory available", f"{available / 2**30:.0f} GiB", "/proc/meminfo"))
        if limit is not None:
            seen.append(Observation("limit of this process", f"{limit:,} bytes", "RLIMIT_AS"))
        return Evidence(MappingProxyType(facts), (*seen, *_device(torch, scene)))


class _Walk:
    """Walks containers and modules down to tensors' storages, bounded in objects, depth and time."""

    def __init__(self, torch: Any, deadline: Deadline) -> None:
        self.torch = torch
        self.deadline = deadline
        self.left = OBJECTS
        self.known: set[int] = set()

    def bytes_of(self, value: object, depth: int = 0) -> int:
        """Bytes of the storages under ``value`` that were not counted before."""
        self.left -= 1
        if self.left < 0 or depth > DEPTH:
            return 0
        if self.left % 256 == 0:
            self.deadline.check()
        if issubclass(type(value), self.torch.Tensor):
            return self._of_tensor(value)
        return sum(self.bytes_of(part, depth + 1) for part in itertools.islice(self._parts(value), OBJECTS))

    def _of_tensor(self, tensor: Any) -> int:
        total = 0
        for one in (tensor, tensor.grad if tensor.is_leaf else None):
            try:
                if one is not None and one.device.type != "meta":
                    storage = one.untyped_storage()
                    if storage._cdata not in self.known:
                        self.known.add(storage._cdata)
                        total += int(storage.nbytes())
            except Exception:  # fake and wrapper tensors have no storage of their own
                continue
        return total

    def _parts(self, value: Any) -> Iterator[object]:
        kind = type(value)
        if issubclass(kind, self.torch.nn.Module):
            return _of_module(value)
        if issubclass(kind, self.torch.optim.Optimizer):
            return iter(list(vars(value).get("state", {}).values()))
        if issubclass(kind, Mapping) and kind.__module__ in {"builtins", "collections"}:
            return iter(list(value.values()))
        if kind in (list, tuple, set, frozenset):
            return iter(value)
        if kind.__module__.startswith("transformers.") and hasattr(value, "__dict__"):  # BatchEncoding, ModelOutput
            return iter(
                [part for part in list(vars(value).values()) if issubclass(type(part), (dict, self.torch.Tensor))]
            )
        return iter(())


def _of_module(module: Any) -> Iterator[object]:
    """Parameters and buffers of a module and of those in it, read from where ``torch.nn.Module`` keeps them: none of its
    methods is called, for a person's class may have made another thing of it."""
    waiting, seen = [module], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        fields = vars(current)
        for held in ("_parameters", "_buffers"):
            yield from list(fields.get(held, {}).values())
        waiting += [inner for inner in fields.get("_modules", {}).values() if inner is not None]


def _by_size(walk: _Walk, items: Iterable[tuple[str, object]], prefix: str = "") -> list[tuple[str, int]]:
    """Name and bytes of what holds storages not counted before, the largest first."""
    found = [(f"{prefix}{name}", _bytes(walk, value)) for name, value in items]
    return sorted((pair for pair in found if pair[1]), key=lambda pair: -pair[1])


def _bytes(walk: _Walk, value: object) -> int:
    try:
        return walk.bytes_of(value)
    except BudgetSpent:
        raise
    except Exception:  # an object that breaks when it is looked at costs its own line only
        return 0


def _host() -> tuple[int | None, int | None]:
    """Bytes that the host can still give, and the limit on this process's address space."""
    available = limit = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):  # not Linux
        available = None
    if sys.platform != "win32":
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        limit = soft if soft != resource.RLIM_INFINITY else None
    return available, limit


def _device(torch: Any, scene: Scene) -> list[Observation]:
    if torch is None or scene.cuda_dead or not torch.cuda.is_initialized():
        return []
    stats = torch.cuda.memory_stats()
    return [
        Observation(label, f"{stats[key]:,} bytes", "torch.cuda.memory_stats()")
        for label, key in (
            ("allocated now", "allocated_bytes.all.current"),
            ("reserved now", "reserved_bytes.all.current"),
            ("largest so far", "allocated_bytes.all.peak"),
        )
        if key in stats
    ]
