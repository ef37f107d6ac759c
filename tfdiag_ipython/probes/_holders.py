"""Which names hold which storages: walks from variables, `Out` and frames down to tensors and arrays, each storage counted once.

Nothing of the person's is called: fields are read from where Python and `torch.nn.Module` keep them, and a tensor's through
`torch`'s own descriptors with `__torch_function__` switched off. Sources: `torch/nn/modules/module.py`, `torch/optim/optimizer.py`.
"""

from __future__ import annotations

import collections
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.errors import BudgetSpent
from tfdiag_ipython.probe import Deadline
from tfdiag_ipython.probes._graphs import Graphs

OBJECTS = 20_000
"""Objects looked into at most in a quick look, and a quarter of that under one name."""
THOROUGH = 2_000_000
DEPTH = 5
KINDS = ("parameters", "gradients", "optimizer", "variables", "outputs", "frames", "graphs")
"""What a storage counts as, where several names hold it: the first of these."""
_PLAIN = frozenset(
    (type(None), bool, int, float, complex, str, bytes, range, slice, types.ModuleType, types.BuiltinFunctionType)
)
_SEQUENCES = (list, tuple, set, frozenset, collections.deque)


@dataclass
class Held:
    """One storage: what it counts as, the name it was found under (and where that stands), its bytes, its device."""

    kind: str
    root: str
    name: str
    size: int
    place: str


class Holders:
    """The storages found so far. ``cut`` says that there was more than may be looked into."""

    def __init__(self, torch: Any, deadline: Deadline, most: int = OBJECTS) -> None:
        self.torch = torch
        self.tensor: Any = torch._C.TensorBase if hasattr(torch._C, "TensorBase") else torch._C._TensorBase
        self.numpy: Any = sys.modules.get("numpy")
        self.deadline = deadline
        self.left = self.most = most
        self.cut = False
        self.held: dict[object, Held] = {}
        self._seen: set[int] = set()
        self._graphs = Graphs(torch, deadline)

    def add(
        self, root: str, items: Iterable[tuple[str, object]], *, graphs: Callable[[str], str] = lambda name: "all"
    ) -> None:
        """Look at what these names hold: tensors, models and optimizers first, so that no large container hides them.

        What the graphs of a name's tensors keep counts with it: of ``all`` tensors, of those in ``lists`` alone (a plain one's graph may
        be the step that is running), or of ``none``.
        """
        direct = (self.torch.Tensor, self.torch.nn.Module, self.torch.optim.Optimizer)
        named = [(name, value) for name, value in items if type(value) not in _PLAIN]
        with getattr(self.torch._C, "DisableTorchFunctionSubclass", nullcontext)():
            for name, value in sorted(named, key=lambda item: not issubclass(type(item[1]), direct)):
                try:
                    nodes = self._walk(root, name, value)
                    which = graphs(name)
                    if which == "all" or (which == "lists" and issubclass(type(value), _SEQUENCES)):
                        self._follow(nodes, root, name)
                except BudgetSpent:
                    raise
                except Exception:  # an object that breaks when it is looked at costs its own line only
                    continue

    def by_name(self, root: str) -> list[tuple[str, int]]:
        """Names of this root and the bytes under them, the largest first."""
        return by_size((held.name, held.size) for held in self.held.values() if held.root == root)

    def of(self, place: str, kind: str) -> list[tuple[str, int]]:
        """Names and bytes of what counts as this kind on this device, the largest first."""
        return by_size((one.name, one.size) for one in self.held.values() if (one.place, one.kind) == (place, kind))

    def unnamed(self, objects: Iterable[object]) -> dict[str, int]:
        """Bytes per device of the tensors among these objects that no name led to."""
        known = set(self.held)
        with getattr(self.torch._C, "DisableTorchFunctionSubclass", nullcontext)():
            for thing in objects:
                if issubclass(type(thing), self.torch.Tensor):
                    try:
                        self._tensor(thing, KINDS[-1], "", "")  # replaces nothing that a name led to
                    except Exception:  # fake tensors and broken ones
                        continue
        sums: collections.Counter[str] = collections.Counter()
        for key in self.held.keys() - known:
            one = self.held.pop(key)
            sums[one.place] += one.size
        return dict(sums)

    def _follow(self, nodes: list[Any], root: str, name: str) -> None:
        for tensor in self._graphs.saved(nodes):
            self._storage(tensor, "graphs", root, name)
        self.cut |= self._graphs.cut

    def _walk(self, root: str, name: str, value: object) -> list[Any]:
        """Look at all that an object holds; returns the graphs' nodes of its tensors."""
        nodes: list[Any] = []
        waiting: collections.deque[tuple[Any, int, str]] = collections.deque([(value, 0, root)])
        end = self.left - self.most // 4
        while waiting:
            value, depth, kind = waiting.popleft()  # the nearest first: what is met too deep is not met again
            known = type(value)
            if known in _PLAIN:
                continue
            self.left -= 1
            if self.left < max(end, 0):
                self.cut = True
                return nodes
            if self.left % 256 == 0:
                self.deadline.check()
            if issubclass(known, self.torch.Tensor):
                self._tensor(value, kind, root, name)
                nodes.append(self.tensor.grad_fn.__get__(value))
            elif self.numpy is not None and issubclass(known, self.numpy.ndarray):
                self._array(value, kind, root, name)
            elif id(value) not in self._seen and depth <= DEPTH:
                self._seen.add(id(value))
                deeper = depth + (not issubclass(known, (self.torch.nn.Module, self.torch.optim.Optimizer)))
                waiting.extend((part, deeper, as_) for part, as_ in self._parts(value, known, kind))
        return nodes

    def _parts(self, value: Any, known: type, kind: str) -> Iterator[tuple[object, str]]:
        """What an object holds directly, and what that counts as."""
        fields = fields_of(value)
        if issubclass(known, dict):
            yield from ((part, kind) for part in list(dict.values(value))[: self.left])
        for base in _SEQUENCES:
            if issubclass(known, base):
                yield from ((part, kind) for part in list(base.__iter__(value))[: self.left])
        if known is types.FunctionType:
            yield from ((part, kind) for part in _closure(value))
        elif known is types.MethodType:
            yield value.__self__, kind
        elif issubclass(known, self.torch.nn.Module):
            for name, part in fields.items():
                as_ = "parameters" if name in ("_parameters", "_buffers") else kind
                if name == "_modules" or as_ == "parameters" or not name.startswith("_"):
                    yield from ((inner, as_) for inner in (dict.values(part) if type(part) is dict else (part,)))
        elif issubclass(known, self.torch.optim.Optimizer):
            yield from (
                (part, "parameters" if name == "param_groups" else "optimizer") for name, part in fields.items()
            )
        elif not issubclass(known, type):
            yield from ((part, kind) for part in list(fields.values())[: self.left])

    def _tensor(self, tensor: Any, kind: str, root: str, name: str) -> None:
        grad = self.tensor.grad.__get__(tensor) if self.tensor.is_leaf.__get__(tensor) else None
        if issubclass(type(tensor), self.torch.nn.Parameter):
            kind = "parameters"
        for one, as_ in ((tensor, kind), (grad, "gradients")):
            if one is None:
                continue
            try:
                self._storage(one, as_, root, name)
            except Exception:  # wrapper tensors have no storage of their own: what they wrap stands in their fields
                for part in fields_of(one).values():
                    if issubclass(type(part), self.torch.Tensor):
                        self._storage(part, as_, root, name)

    def _storage(self, tensor: Any, kind: str, root: str, name: str) -> None:
        storage = self.tensor.untyped_storage(tensor)
        place, size = str(storage.device), storage.nbytes()
        if place == "meta" or type(size) is not int:  # of a fake tensor it may be a symbol
            return
        key: object = ("storage", storage._cdata)
        if place == "cpu" and not self.torch._C._is_cow_tensor(
            tensor
        ):  # reading the address of one of those would copy it
            key = storage.data_ptr() or key  # the same for an array that shares it
        self._count(key, Held(kind, root, name, size, place))

    def _array(self, array: Any, kind: str, root: str, name: str) -> None:
        known: Any = self.numpy.ndarray
        while issubclass(type(known.base.__get__(array)), known):
            array = known.base.__get__(array)
        owner = known.base.__get__(array)
        if issubclass(type(owner), self.torch.Tensor):
            self._tensor(owner, kind, root, name)
        elif owner is None:  # memory of a mapped file or of another library is not the array's
            self._count(
                known.__array_interface__.__get__(array)["data"][0],
                Held(kind, root, name, known.nbytes.__get__(array), "cpu"),
            )

    def _count(self, key: object, found: Held) -> None:
        before = self.held.get(key)
        if before is None or KINDS.index(found.kind) < KINDS.index(before.kind):
            self.held[key] = found


def by_size(pairs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Sums per name, the largest first."""
    sums: collections.Counter[str] = collections.Counter()
    for name, size in pairs:
        sums[name] += size
    return [(name, size) for name, size in sums.most_common() if size]


def fields_of(value: Any) -> dict[str, Any]:
    """The instance's own dictionary, read past whatever its class makes of it."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except Exception:
        return {}
    return found if type(found) is dict else {}


def _closure(function: types.FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # empty
            continue
