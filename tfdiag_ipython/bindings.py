"""What variables were bound to before cells ran again, so that Undo can bind them again; no tensor is kept for it."""

from __future__ import annotations

import re
import types
import weakref
from collections.abc import MutableMapping
from typing import Any

MOST_OBJECTS = 20_000
"""Objects looked at in one namespace; values that would need more are not kept."""
MOST_BYTES = 1_000_000
_ABSENT = object()
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, types.ModuleType)
_CONTAINERS = (list, tuple, set, frozenset, dict)
IPYTHON_NAMES = re.compile(r"_|__.*|_(?:\d+|i+\d*|oh|dh|ih|exit_code)|In|Out|exit|quit|get_ipython")


class Bindings:
    """What the person's names in a namespace are bound to, to be bound again when cells that ran since are undone.

    Kept are numbers, texts, modules, library classes and small containers of them. Other values may hold tensors, files or
    frames, which would stay in memory for it. ``settle`` is called when the cells have run; nothing may run in between
    that and ``restore``.
    """

    def __init__(self, namespace: MutableMapping[str, Any]) -> None:
        self._namespace = namespace
        left = [MOST_OBJECTS]
        self._before = {
            name: (id(value), _reference(value), value if keepable(value, left) else _ABSENT)
            for name, value in list(namespace.items())
            if not IPYTHON_NAMES.fullmatch(name)
        }
        self.lost: list[str] = []
        """Names that the cells bound, and whose value before is not kept."""
        self._back: dict[str, Any] = {}

    def settle(self) -> None:
        """Keep of what was before only what the cells have bound anew."""
        now = {name: value for name, value in self._namespace.items() if not IPYTHON_NAMES.fullmatch(name)}
        for name in now.keys() | self._before.keys():
            number, alive, value = self._before.get(name, (0, None, _ABSENT))
            if name in now and id(now[name]) == number and (alive is None or alive() is now[name]):
                continue
            if number and value is _ABSENT:
                self.lost.append(name)
            else:
                self._back[name] = value
        self.lost.sort()
        self._before = {}

    def follow(self, earlier: Bindings) -> None:
        """Go back to what was before ``earlier``, which settled directly before this."""
        self.lost = sorted({*self.lost, *earlier.lost})
        self._back = {name: value for name, value in {**self._back, **earlier._back}.items() if name not in self.lost}

    def restore(self) -> list[str]:
        """Bind the kept names as they were, and remove those that were not there; their names."""
        for name, value in self._back.items():
            if value is _ABSENT:
                self._namespace.pop(name, None)
            else:
                self._namespace[name] = value
        return sorted(self._back)


def _reference(value: object) -> weakref.ref[Any] | None:
    """What tells a value from another one that was made later in its place: a value that is let go of leaves its identity to others."""
    try:
        return weakref.ref(value)
    except TypeError:  # numbers, texts and plain containers, which are mostly kept themselves
        return None


def keepable(value: object, left: list[int] | None = None) -> bool:
    """Whether a value is plain and small; nothing of it is run to find out. ``left`` counts down the objects looked at."""
    left = [MOST_OBJECTS] if left is None else left
    queue: list[Any] = [value]
    size = 0
    while queue:
        current = queue.pop()
        kind: Any = type(current)  # isinstance would ask the object for its __class__
        left[0] -= 1
        if kind is type:
            if current.__dict__.get("__module__") == "__main__":
                return False
        elif kind in _CONTAINERS:
            size += kind.__sizeof__(current)
            if len(current) > left[0]:
                return False
            queue.extend(current.values() if kind is dict else current)
        elif kind is types.BuiltinFunctionType:
            if not isinstance(current.__self__, types.ModuleType):
                return False  # the method of an object, which it holds
        elif kind in _PLAIN:
            size += kind.__sizeof__(current)
        else:
            return False
        if size > MOST_BYTES or left[0] < 0:
            return False
    return True
