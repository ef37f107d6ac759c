"""What a program passes to its models while it runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Seen = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], "Callable[[], None] | None"]


@contextlib.contextmanager
def calls_of(kind: type, seen: Seen) -> Iterator[None]:
    """Hand model, positional and named arguments of each outermost call of a model class, or of a class derived from it, to ``seen``.

    What ``seen`` returns is called when the model has returned. The class is watched, not one model, because the cell that runs may
    make its model anew. A fault of ``seen`` costs nothing; what torch compiles is not looked at.
    """
    import torch

    own = kind.__dict__.get("__call__")
    call: Any = kind.__call__
    depth = threading.local()

    @functools.wraps(call)
    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or getattr(depth, "inside", False):
            return call(model, *args, **kwargs)
        depth.inside = True
        try:
            done = None
            with contextlib.suppress(Exception):
                done = seen(model, args, kwargs)
            result = call(model, *args, **kwargs)
            if done is not None:
                with contextlib.suppress(Exception):
                    done()
            return result
        finally:
            depth.inside = False

    type.__setattr__(kind, "__call__", watched)
    try:
        yield
    finally:
        if own is None:
            type.__delattr__(kind, "__call__")
        else:
            type.__setattr__(kind, "__call__", own)


def by_name(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call by the names of ``forward``'s parameters."""
    return kwargs if not args else inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
