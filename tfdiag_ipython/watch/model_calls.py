"""What a program passes to its models while it runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def calls_of(kind: type, seen: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """Hand the arguments of each call of a model class, by parameter name, to ``seen``; all models of the class are watched.

    The class is watched, not one model, because the cell that runs may make its model anew. A fault of ``seen`` costs nothing.
    """
    own = kind.__dict__.get("__call__")
    call: Any = kind.__call__

    @functools.wraps(call)
    def watched(model: Any, *args: Any, **kwargs: Any) -> Any:
        with contextlib.suppress(Exception):
            seen(inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments)
        return call(model, *args, **kwargs)

    type.__setattr__(kind, "__call__", watched)
    try:
        yield
    finally:
        if own is None:
            type.__delattr__(kind, "__call__")
        else:
            type.__setattr__(kind, "__call__", own)
