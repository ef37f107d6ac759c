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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.probes.index_checks import Place
from tfdiag_ipython.watch.imports import after_import

COMPILER = "torch._dynamo"
Arguments = tuple[Any, ...]
_MISSING = object()
_REMEMBERING = {
    "torch.overrides": (
        "get_ignored_functions",
        "get_default_nowrap_functions",
        "get_testing_overrides",
        "_get_overridable_functions",
        "_get_tensor_methods",
    ),
    "torch.utils._device": ("_device_constructors",),
    f"{COMPILER}.trace_rules": ("get_torch_obj_rule_map",),
}
"""Functions that remember PyTorch's functions by their identity, for good, when they are first called: they must not remember ours."""


@dataclass(frozen=True)
class Watch:
    """What is done around a call of a guarded function, given the guard and the call's arguments.

    ``look`` comes first, and what it raises is raised in the place of the call; what ``before`` returns is handed to ``after`` with the
    call's result.
    """

    look: Callable[[Any, Arguments, dict[str, Any]], None] | None = None
    before: Callable[[Any, Arguments, dict[str, Any]], Any] | None = None
    after: Callable[[Any, Any, Arguments, dict[str, Any], Any], None] | None = None


class GuardedFunctions:
    """The replaced functions of one PyTorch. ``active``: the guard of each thread that has one, by the thread's identity.

    ``watched`` gives the places whenever the functions are replaced: modules are loaded meanwhile, and a person may have put a function of
    their own there.
    """

    def __init__(self, torch: Any, watched: Callable[[], Mapping[Place, Watch]]) -> None:
        self.active: dict[int, Any] = {}
        self._torch = torch
        self._watched = watched
        self._lock = threading.RLock()
        self._replaced: dict[
            Place, tuple[Any, Any]
        ] = {}  # what was in the place's own dictionary, and what is there now
        self._compiler = contextlib.ExitStack()

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
        if self._replaced:
            return
        _fill_memories()
        self._compiler.enter_context(after_import(COMPILER, lambda _: None, self._away))
        for place, watch in self._watched().items():
            self._replace(place, _guarded(self, place, getattr(*place), watch))
        scripting = sys.modules["torch.jit._script"]  # it reads source, and knows PyTorch's functions by their identity
        name = "_script_impl" if hasattr(scripting, "_script_impl") else "script"
        self._replace((scripting, name), self._unguarded(getattr(scripting, name)))

    def _replace(self, place: Place, made: Any) -> None:
        self._replaced[place] = (vars(place[0]).get(place[1], _MISSING), made)
        setattr(*place, made)

    def _take(self) -> None:
        self._compiler.close()
        while self._replaced:
            place, (before, made) = self._replaced.popitem()
            if vars(place[0]).get(place[1]) is made:  # else it is another tool's, put there since, which calls ours
                _restore(place, before)

    def _unguarded(self, function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._away():
                return function(*args, **kwargs)

        return call

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        with self._lock:
            self._take()
            try:
                yield
            finally:
                if self.active:
                    self._put()

    @contextlib.contextmanager
    def native(self, place: Place) -> Iterator[None]:
        """PyTorch's own function in this place: its C code hands on what stands there to whoever overrides it, by identity."""
        with self._lock:
            before, made = self._replaced.get(place, (None, None))
            there = made is not None and vars(place[0]).get(place[1]) is made
            if there:
                _restore(place, before)
        try:
            yield
        finally:
            with self._lock:
                if there and self._replaced.get(place, (None, None))[1] is made:
                    setattr(*place, made)


def _guarded(functions: GuardedFunctions, place: Place, function: Any, watch: Watch) -> Any:
    torch, active, identity_of = functions._torch, functions.active, threading.get_ident
    is_compiling, overridden = torch.compiler.is_compiling, torch.overrides.has_torch_function
    look, before, after = watch.look, watch.before, watch.after

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return function(*args, **kwargs)
        guard = active.get(identity_of())
        if guard is None or guard.busy:  # what a look itself calls is not looked at
            return function(*args, **kwargs)
        if overridden((*args, *kwargs.values())):  # by a class of tensors, or by a mode
            if _is_own(torch, args) or _is_own(torch, kwargs.values()):
                with functions.native(place):
                    return function(*args, **kwargs)
            if look is not None:
                with _busy(guard):
                    look(guard, args, kwargs)
            with functions.native(place):
                return function(*args, **kwargs)
        with _busy(guard):
            if look is not None:
                look(guard, args, kwargs)
            known = before(guard, args, kwargs) if before is not None else None
            result = function(*args, **kwargs)
            if after is not None:
                with contextlib.suppress(Exception):
                    after(guard, result, args, kwargs, known)
            return result

    functools.update_wrapper(guarded, function)
    owner, name = place
    guarded.__module__ = owner.__module__ if isinstance(owner, type) else owner.__name__
    guarded.__qualname__ = (
        f"{owner.__qualname__}.{name}" if isinstance(owner, type) else name
    )  # a pickle holds these two
    return guarded


class _busy:
    """A guard that looks at a call; a class of its own costs less than a generator."""

    __slots__ = ("guard",)

    def __init__(self, guard: Any) -> None:
        self.guard = guard

    def __enter__(self) -> None:
        self.guard.busy = True

    def __exit__(self, *_: object) -> None:
        self.guard.busy = False


def _is_own(torch: Any, values: Any) -> bool:
    """Whether one of these is of a class that handles PyTorch's functions itself."""
    plain = (torch.Tensor, torch.nn.Parameter)
    return any(type(value) not in plain and hasattr(type(value), "__torch_function__") for value in values)


def _restore(place: Place, before: Any) -> None:
    if before is _MISSING:
        delattr(*place)
    else:
        setattr(*place, before)


def _fill_memories() -> None:
    for module, names in _REMEMBERING.items():
        for name in names:
            function = getattr(sys.modules.get(module), name, None)
            with contextlib.suppress(Exception):  # another release's may want arguments
                function and function()
