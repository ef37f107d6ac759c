"""What a program passes to its models while it runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Seen = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], "Callable[[], None] | None"]
_parameters: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def calls_of(kind: type, seen: Seen, method: str = "__call__", depth: threading.local | None = None) -> Iterator[None]:
    """Hand model, positional and named arguments of each outermost call of a model class, or of a class derived from it, to ``seen``.

    What ``seen`` returns is called when the model has returned. The class is watched, not one model, because the cell that runs may
    make its model anew; ``method`` watches another method of it, and two methods that share a ``depth`` count as one: a call of one
    inside the other is none of the outermost. A fault of ``seen`` costs nothing; what torch compiles is not looked at.
    """
    torch: Any = sys.modules["torch"]  # the class is a model's
    depth = threading.local() if depth is None else depth
    compiling = torch.compiler.is_compiling
    own = kind.__dict__.get(method)
    call: Any = getattr(kind, method)

    @functools.wraps(call)
    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        if compiling() or getattr(depth, "inside", False):
            return call(model, *args, **kwargs)
        depth.inside = True
        try:
            try:  # contextlib.suppress would cost as much again as all the rest
                done = seen(model, args, kwargs)
            except Exception:
                done = None
            result = call(model, *args, **kwargs)
            if done is not None:
                with contextlib.suppress(Exception):
                    done()
            return result
        finally:
            depth.inside = False

    type.__setattr__(kind, method, watched)
    try:
        yield
    finally:
        if own is None:
            type.__delattr__(kind, method)
        else:
            type.__setattr__(kind, method, own)


def by_name(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call by the names of ``forward``'s parameters."""
    if not args:
        return kwargs
    names = _parameters.get(type(model))
    if names is None:  # asked for at every call, and slow to find out
        names = _parameters[type(model)] = tuple(inspect.signature(model.forward).parameters)
    return {**dict(zip(names, args, strict=False)), **kwargs}
