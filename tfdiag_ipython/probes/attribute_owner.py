"""The classes of the object that lacked an attribute, and which of the names that replaced it the object has."""

from __future__ import annotations

import inspect
from types import CodeType, MappingProxyType
from typing import ClassVar

from tfdiag_ipython.data.changes import methods
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene


class AttributeOwnerProbe(Probe):
    """The object of the live ``AttributeError``, looked at without asking it for anything.

    Facts: ``attribute``, ``classes`` (dotted names of its class and bases), ``has`` (the names before and after
    a change of ``data/changes.json`` that it has, or that its ``__getattr__`` speaks of). Source: ``AttributeError.obj`` and ``.name``, which Python 3.10 and later set.
    """

    name: ClassVar[str] = "attribute-owner"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        error = scene.exception
        for _ in range(8):
            if error is None or isinstance(error, AttributeError):
                break
            error = error.__cause__ or error.__context__
        owner = getattr(error, "obj", None)
        attribute = getattr(error, "name", None)
        if owner is None or not isinstance(attribute, str):
            return Evidence(missing="the error does not say which object it is about")
        kind = owner if isinstance(owner, type) else type(owner)
        classes = tuple(f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__[:16])
        missing = object()
        names = sorted({name for method in methods() for name in (method.old, method.new)} - {""})
        answered = _answered(kind)
        has = tuple(
            name
            for name in names
            if inspect.getattr_static(owner, name, missing) is not missing or name.removesuffix("_ids") in answered
        )
        facts = {"attribute": attribute, "classes": classes, "has": has}
        seen = [Observation("Class", classes[0], "the object of the error")]
        if has:
            seen.append(Observation("It has", ", ".join(has), "the object of the error"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _answered(kind: type) -> frozenset[str]:
    """The names of which the class's own ``__getattr__`` speaks: it gives what no dictionary holds."""
    code = getattr(inspect.getattr_static(kind, "__getattr__", None), "__code__", None)
    return (
        frozenset(one for one in code.co_consts if isinstance(one, str)) if isinstance(code, CodeType) else frozenset()
    )
