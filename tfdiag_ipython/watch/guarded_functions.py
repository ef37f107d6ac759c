"""PyTorch's functions that take indices, replaced for as long as a guard is active in some thread.

A function mode (``torch.overrides.TorchFunctionMode``) would see all calls, but all calls would pay for it: an optimizer's step reads
thousands of attributes of tensors, and a training step of a BERT-base took a third longer on an H200. So the guard takes the place of
just the functions that it is about, where Python looks them up: ``torch``, ``torch.Tensor``, ``torch.nn.functional`` and ``torch._C._nn``, through which
modules, losses and transformers call them. A reference that was taken out of those before (``from torch import gather``) is not seen.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tfdiag_ipython.watch.imports import after_import

COMPILER = "torch._dynamo"
Place = tuple[Any, str]
"""A module or class, and an attribute of it."""
Look = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]
"""Looks at a call before it is made (a guard, its arguments); what it raises is raised in the place of the call."""
Result = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], None]
"""Looks at a call's result (a guard, the result, the call's arguments)."""
_MISSING = object()


class GuardedFunctions:
    """The replaced functions of one PyTorch. ``active``: the guard of each thread that has one, by the thread's identity."""

    def __init__(self, torch: Any, looks: dict[Place, Look], follows: dict[Place, Result]) -> None:
        self.active: dict[int, Any] = {}
        self._torch = torch
        self._lock = threading.RLock()
        self._there = False
        self._compiler = contextlib.ExitStack()
        self._before: list[tuple[Any, str, Any, Any]] = []
        self._made: dict[Place, Any] = {}
        for owner, name in {**looks, **follows}:
            place = (owner, name)
            function = getattr(owner, name)
            self._made[place] = self._guarded(function, looks.get(place), follows.get(place))
        self._made[torch.jit, "script"] = self._unguarded(torch.jit.script)

    def enter(self, guard: Any) -> int:
        """Begin to guard this thread; returns its identity."""
        with self._lock:
            identity = threading.get_ident()
            self.active[identity] = guard
            self._put()
        return identity

    def leave(self, identity: int) -> None:
        """End it; with the last guard PyTorch's functions are what they were."""
        with self._lock:
            self.active.pop(identity, None)
            if not self.active:
                self._take()

    def _put(self) -> None:
        if self._there:
            return
        self._there = True
        with contextlib.suppress(Exception):
            _know_functions()
        self._compiler.enter_context(after_import(COMPILER, lambda _: None, self._away))
        for (owner, name), made in self._made.items():
            self._before.append((owner, name, vars(owner).get(name, _MISSING), made))
            setattr(owner, name, made)

    def _take(self) -> None:
        self._compiler.close()
        while self._before:
            owner, name, before, made = self._before.pop()
            if vars(owner).get(name) is not made:  # another tool's, put there since, which calls ours
                continue
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._there = False

    def _guarded(self, function: Any, look: Look | None, follow: Result | None) -> Any:
        active, identity_of = self.active, threading.get_ident
        is_compiling = self._torch.compiler.is_compiling

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return function(*args, **kwargs)
            guard = active.get(identity_of())
            if guard is None or guard.busy:  # what a look itself calls is not looked at
                return function(*args, **kwargs)
            guard.busy = True
            try:
                if look is not None:
                    look(guard, args, kwargs)
                result = function(*args, **kwargs)
                if follow is not None:
                    with contextlib.suppress(Exception):
                        follow(guard, result, args, kwargs)
                return result
            finally:
                guard.busy = False

        return guarded

    def _unguarded(self, function: Any) -> Any:
        """TorchScript reads a program's source and knows PyTorch's own functions by their identity."""

        @functools.wraps(function)
        def script(*args: Any, **kwargs: Any) -> Any:
            with self._away():
                return function(*args, **kwargs)

        return script

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        with self._lock:
            self._take()
            try:
                yield
            finally:
                if self.active:
                    self._put()


def _know_functions() -> None:
    """torch.compile remembers PyTorch's functions by their identity, for good: as it is imported, in some releases when it first needs them."""
    remember = getattr(sys.modules.get(f"{COMPILER}.trace_rules"), "get_torch_obj_rule_map", None)
    if remember is not None:
        remember()
