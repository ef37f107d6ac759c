"""What autograd graphs keep for a backward pass that has not come: the tensors that their nodes saved.

A tensor that was computed with gradients keeps its whole graph, and the graph what backward would need. Nodes tell it themselves
(``_raw_saved_*``, ``torch/csrc/autograd/saved_variable.h``); what a hook packed away is not unpacked: it might run the model again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tfdiag_ipython.probe import Deadline

MOST = 200_000
"""Nodes that are looked at."""


class Graphs:
    """The graphs met so far: each node is looked at once, and belongs to the first name that led to it."""

    def __init__(self, torch: Any, deadline: Deadline) -> None:
        self._deadline = deadline
        self._seen: set[Any] = set()
        self._fields: dict[type, tuple[str, ...]] = {}
        saved = getattr(torch._C._autograd, "SavedTensor", None)
        self._readable = hasattr(saved, "data") and hasattr(saved, "unpack_hook")  # torch 2.13 has both
        self.cut = False

    def saved(self, roots: Sequence[Any]) -> Iterator[Any]:
        """Tensors that the graphs behind these nodes saved; none of a graph whose backward pass has freed them."""
        waiting = list(roots) if self._readable else []
        while waiting:
            node = waiting.pop()
            if node is None or node in self._seen:
                continue
            if len(self._seen) >= MOST:
                self.cut = True
                return
            self._seen.add(node)
            if len(self._seen) % 256 == 0:
                self._deadline.check()
            for name in self._fields_of(node):
                yield from _tensors(node, name)
            waiting.extend(following for following, _ in node.next_functions)

    def _fields_of(self, node: Any) -> tuple[str, ...]:
        kind = type(node)
        if kind not in self._fields:
            self._fields[kind] = tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))
        return self._fields[kind]


def _tensors(node: Any, name: str) -> Iterator[Any]:
    try:
        raw = getattr(node, name)
        for one in raw if isinstance(raw, (tuple, list)) else (raw,):
            if one.unpack_hook is None and one.data is not None:
                yield one.data
    except Exception:  # a function of the person's own that has freed them says so
        return
