"""Keeps the state that a training step changes, and puts it back bit for bit: also when the step failed or was stopped.

What is written in place (weights, buffers, gradients, optimizer state) is copied byte by byte into a temporary file: on a device that is
being filled there is no room for a copy, and the host's memory may be what is filled. Everything else is put back as the very
objects that were there: attributes of modules, entries of dictionaries and lists, gradients that were ``None``.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Any

from tfdiag_ipython.sizes import memory_size

CHUNK = 8 * 2**20
"""Bytes that are copied at once."""
DEPTH = 6
"""How deep containers in a module's or an optimizer's attributes are looked into."""
_CONTAINERS = (dict, list, set, collections.OrderedDict, collections.defaultdict, collections.deque)


class TrainingState:
    """The state of a model, and of its optimizer if there is one, at one moment.

    Raises ``LookupError``, with one sentence, for what cannot be put back exactly. Used as a context it puts everything back at its
    end; it holds references only until then. ``bytes``: what is copied into the file. ``weights=False`` leaves the parameters out, for
    what only runs the model forward.
    """

    def __init__(self, torch: Any, model: Any, optimizer: Any = None, *, weights: bool = True) -> None:
        self._torch = torch
        self._weights = weights
        self._devices = {parameter.device for parameter in model.parameters()}
        self._fields: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._tensors: dict[int, tuple[Any, Any, bool, Any, int | None]] = {}
        self._storages: dict[int, Any] = {}
        for module in model.modules():
            self._attributes(vars(module))
        if optimizer is not None:
            self._attributes(vars(optimizer))
        for tensor, *_ in self._tensors.values():
            self._storage(tensor)
            if _grad(tensor) is not None:
                self._storage(_grad(tensor), "a gradient", ": `model.zero_grad()` frees it")
        self.bytes = sum(storage.nbytes() for storage in self._storages.values())
        self._file: IO[bytes] | None = None

    def __enter__(self) -> TrainingState:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if free < self.bytes + CHUNK:
            raise LookupError(
                f"a copy of the model's state, {memory_size(self.bytes)}, has no room on the disk ({memory_size(free)} are free in "
                "the folder for temporary files): without it nothing can be tried"
            )
        self._random = _random_state(self._torch, self._on_cuda())
        self._modes = (self._torch.is_grad_enabled(), self._torch.get_default_dtype())
        self._file = tempfile.TemporaryFile()
        try:
            for storage in self._storages.values():
                for chunk in self._chunks(storage):
                    self._file.write(_bytes_of(chunk.cpu()))
            self._file.flush()
        except BaseException:
            self._forget()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            try:
                self._put_back()
            finally:
                self._forget()

    def _put_back(self) -> None:
        torch = self._torch
        for fields, kept in self._fields.values():
            if fields.keys() != kept.keys() or any(fields[name] is not value for name, value in kept.items()):
                fields.clear()
                fields.update(kept)
        for container, kept in self._containers.values():
            _refill(container, kept)
        with torch.no_grad():
            for tensor, alias, requires_grad, grad, _ in self._tensors.values():
                if tensor.data_ptr() != alias.data_ptr() or tensor.shape != alias.shape:
                    tensor.data = alias
                if tensor.is_leaf and tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)
                if _grad(tensor) is not grad:
                    tensor.grad = grad
            assert self._file is not None
            self._file.seek(0)
            for storage in self._storages.values():
                for chunk in self._chunks(storage):
                    whole = torch.empty(chunk.shape, dtype=torch.uint8, device="cpu")
                    self._file.readinto(_bytes_of(whole))  # type: ignore[attr-defined]
                    chunk.copy_(whole)
            self._restore_versions()
        _set_random_state(torch, self._random)
        torch.set_grad_enabled(self._modes[0])
        torch.set_default_dtype(self._modes[1])

    def _restore_versions(self) -> None:
        """Tensors count writes; a graph that was built before refuses to run backward where they counted on."""
        set_version = getattr(self._torch._C._autograd, "_unsafe_set_version_counter", None)
        if set_version is None:  # before torch 2.1
            return
        for tensor, *_, version in self._tensors.values():
            if version is not None and tensor._version != version:
                _set_version(set_version, tensor, version)

    def _forget(self) -> None:
        for held in (self._fields, self._containers, self._tensors, self._storages, self._devices):
            held.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _attributes(self, fields: dict[str, Any]) -> None:
        if id(fields) not in self._fields:
            self._fields[id(fields)] = (fields, dict(fields))
            for value in list(fields.values()):
                self._look(value, DEPTH)

    def _look(self, value: Any, depth: int) -> None:
        torch = self._torch
        if issubclass(type(value), torch.Tensor):
            self._tensor(value)
        elif type(value) in _CONTAINERS and id(value) not in self._containers and depth:
            self._containers[id(value)] = (value, value.copy())
            for part in list(value.values() if isinstance(value, dict) else value):
                self._look(part, depth - 1)
        elif type(value) is tuple and depth:
            for part in value:
                self._look(part, depth - 1)
        elif issubclass(type(value), (torch.nn.Module, torch.optim.Optimizer)):
            # a teacher in a list is none of the model's modules, and Accelerate's optimizer has the real one inside
            self._attributes(vars(value))

    def _tensor(self, tensor: Any) -> None:
        if id(tensor) in self._tensors or tensor.device.type == "meta":
            return
        if not self._weights and issubclass(type(tensor), self._torch.nn.Parameter):
            return
        version = None if tensor.is_inference() else int(tensor._version)
        self._tensors[id(tensor)] = (tensor, tensor.detach(), bool(tensor.requires_grad), _grad(tensor), version)

    def _storage(self, tensor: Any, what: str = "the model", remedy: str = "") -> None:
        try:
            storage = tensor.untyped_storage()
            self._storages.setdefault(storage._cdata, storage)
            assert storage.nbytes() == 0 or storage.data_ptr()
        except Exception:
            raise LookupError(
                f"{what} holds a {type(tensor).__name__} ({tensor.layout}), whose bytes cannot be kept, so that it could not be put "
                f"back exactly{remedy}"
            ) from None

    def _chunks(self, storage: Any) -> Iterator[Any]:
        """The storage's own bytes in pieces, as tensors of ``uint8``."""
        torch = self._torch
        whole = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        yield from whole.split(CHUNK) if whole.numel() else ()

    def _on_cuda(self) -> list[Any]:
        devices = {*self._devices, *(tensor.device for tensor, *_ in self._tensors.values())}
        return sorted((device for device in devices if device.type == "cuda"), key=str)


def _grad(tensor: Any) -> Any:
    return tensor.grad if tensor.is_leaf else None


def _bytes_of(tensor: Any) -> memoryview:
    """The memory of a contiguous ``uint8`` tensor on the host, which it keeps alive; numpy is not needed for it."""
    memory: Any = (ctypes.c_ubyte * tensor.numel()).from_address(tensor.data_ptr())
    memory.owner = tensor  # a chunk's copy from a device has no other one
    return memoryview(memory).cast("B")


def _refill(container: Any, kept: Any) -> None:
    """Give a container the items that it had, in their order, unless it still has them."""
    pairs = isinstance(container, dict)
    now, then = (list(one.items()) if pairs else list(one) for one in (container, kept))
    same = len(now) == len(then) and all(
        (a[0] is b[0] and a[1] is b[1]) if pairs else a is b for a, b in zip(now, then, strict=True)
    )
    if same:
        return
    container.clear()
    (container.extend if isinstance(container, (list, collections.deque)) else container.update)(kept)


def _set_version(set_version: Any, tensor: Any, version: int) -> None:
    try:
        set_version((tensor,), (version,))
    except TypeError:  # before torch 2.6 it took one tensor
        set_version(tensor, version)


def _random_state(torch: Any, devices: list[Any]) -> tuple[Any, ...]:
    numpy: Any = sys.modules.get("numpy")
    cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
    return torch.get_rng_state(), cuda, random.getstate(), numpy.random.get_state() if numpy is not None else None


def _set_random_state(torch: Any, state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    for device, kept in state[1]:
        torch.cuda.set_rng_state(kept, device)
    random.setstate(state[2])
    if state[3] is not None:
        sys.modules["numpy"].random.set_state(state[3])


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Stop, pressed meanwhile, works when this is over: half a state put back is worse than none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is None:  # not set from Python: it cannot be put back either
        yield
        return
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed and callable(before):
            before(pressed[0], None)
