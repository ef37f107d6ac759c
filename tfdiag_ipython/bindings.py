"""What variables were bound to before cells ran again, so that Undo can bind them again; no tensor is kept for it."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

MOST_OBJECTS = 2_000
"""Objects looked at to learn whether a value holds tensors; a larger one is not kept."""
MOST_BYTES = 1_000_000
_ABSENT = object()
_ARRAYS = frozenset({"torch", "numpy", "tensorflow", "keras", "jax", "jaxlib", "cupy", "pandas", "pyarrow", "PIL"})
_SMALL = frozenset({"device", "dtype", "Size", "finfo"})
_PINS = (BaseException, types.FrameType, types.TracebackType, types.GeneratorType, types.CoroutineType)


class Bindings:
    """What the person's names in a namespace are bound to now, to be bound again when cells that ran since are undone.

    Values that hold tensors or other large data are not kept: they would stay in memory beside what the cells bind anew.
    """

    def __init__(self, namespace: MutableMapping[str, Any]) -> None:
        self._namespace = namespace
        values = {name: value for name, value in namespace.items() if not name.startswith("_")}
        self._kept = {name: value for name, value in values.items() if keepable(value)}
        self._same = {name: _identity(value) for name, value in values.items()}
        self._after: dict[str, Callable[[Any], bool]] = {}
        self._back: list[str] = []

    def settle(self) -> None:
        """Say that the cells have run: what they bound may be undone, until the person binds the name to something else."""
        names = (name for name in {*self._same, *self._namespace} if not name.startswith("_"))
        now = {name: self._namespace.get(name, _ABSENT) for name in names}
        self._after = {name: _identity(value) for name, value in now.items() if not self._before(name, value)}

    @property
    def since(self) -> list[str]:
        """Names that the cells bound, and that were bound to something else later."""
        return sorted(name for name, same in self._after.items() if not same(self._namespace.get(name, _ABSENT)))

    @property
    def lost(self) -> list[str]:
        """Names that the cells bound, and whose value before is not kept; without those of :attr:`since`."""
        return sorted(name for name in self._after if name in self._same and name not in {*self._kept, *self.since})

    def restore(self) -> list[str]:
        """Bind what the cells bound as it was before, but for :attr:`since` and :attr:`lost`; the names that were put back."""
        self._back = sorted(self._after.keys() - {*self.since, *self.lost})
        self.rebind()
        return self._back

    def rebind(self) -> None:
        """Bind those names so once more, after cells that make other values anew have bound them."""
        for name in self._back:
            if name in self._kept:
                self._namespace[name] = self._kept[name]
            else:
                self._namespace.pop(name, None)

    def _before(self, name: str, value: object) -> bool:
        return name in self._same and self._same[name](value)


def keepable(value: object) -> bool:
    """Whether a value is small and holds no tensor, array, exception or frame; nothing of it is run to find out."""
    seen: set[int] = set()
    queue = [value]
    size = 0
    while queue:
        current = queue.pop()
        kind = type(current)  # isinstance would ask the object for its __class__
        if id(current) in seen or issubclass(kind, (type, types.ModuleType, types.BuiltinFunctionType)):
            continue
        seen.add(id(current))
        size += kind.__sizeof__(current) if kind.__module__ == "builtins" else object.__sizeof__(current)
        if len(seen) > MOST_OBJECTS or size > MOST_BYTES or _large(kind):
            return False
        queue.extend(_parts(current))
    return True


def _large(kind: type) -> bool:
    if issubclass(kind, _PINS):
        return True
    roots = {base.__module__.partition(".")[0] for base in kind.__mro__ if isinstance(base.__module__, str)}
    return bool(roots & _ARRAYS) and kind.__name__ not in _SMALL


def _parts(value: Any) -> Iterator[Any]:
    kind = type(value)
    if issubclass(kind, dict):
        yield from dict.values(value)
    for container in (list, tuple, set, frozenset):
        if issubclass(kind, container):
            yield from container.__iter__(value)
    if kind is types.FunctionType:
        yield from (cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType())
        yield from value.__defaults__ or ()
    elif kind is types.MethodType:
        yield value.__self__
    try:
        yield from object.__getattribute__(value, "__dict__").values()
    except AttributeError:
        return


def _identity(value: object) -> Callable[[Any], bool]:
    """A test for being this very object that does not keep it alive."""
    try:
        reference = weakref.ref(value)
    except TypeError:
        number = id(value)
        return lambda other: id(other) == number
    return lambda other: other is not None and reference() is other
