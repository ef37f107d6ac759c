"""The names that the object of an ``AttributeError`` has, and those most like the one that was asked for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

OWNERS = re.compile(r"(?:transformers|tokenizers|torch|datasets|peft|accelerate|huggingface_hub)(?:\.|$)")
"""Libraries whose objects are looked at."""
_HELD = ("_modules", "_parameters", "_buffers", "data")
"""Dictionaries in which modules of torch and the batches of a tokenizer keep what they give as attributes."""
_CUTOFF, LEAD, _MOST = 0.8, 0.05, 5000
"""The least likeness; by how much the best must lead to be the one that was meant; names read of one dictionary."""


class AttributeNamesProbe(Probe):
    """Reads names off the classes and the dictionaries of the live object; no property of it is run, and no ``__getattr__``.

    Facts: ``attribute``, ``kind`` (name of the object's class), ``library`` (the first base's that is of a library), ``nearest``
    (names most like it, best first), ``clear`` (the best is ahead of the next), ``callable`` (the best is a method).
    """

    name: ClassVar[str] = "attribute-names"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        error = scene.exception
        owner, attribute = getattr(error, "obj", None), getattr(error, "name", None)
        if not isinstance(error, AttributeError) or owner is None or not isinstance(attribute, str):
            return Evidence(missing="the error does not say which object it is about")
        bases = type.mro(type(owner)) if not isinstance(owner, type) else type.mro(owner)
        library = next((found[0].rstrip(".") for base in bases if (found := OWNERS.match(str(base.__module__)))), "")
        if not library:
            return Evidence(missing="the object is of none of the libraries that are known")
        scene.deadline.check()
        near = nearest(attribute, _names(owner, bases))
        best = near[0][1] if near else ""
        static: Any = next((vars(base)[best] for base in bases if best in vars(base)), None)
        facts = {
            "attribute": attribute,
            "kind": bases[0].__name__,
            "library": library,
            "nearest": tuple(name for _, name in near),
            "clear": len(near) == 1 or (len(near) > 1 and near[0][0] - near[1][0] >= LEAD),
            "callable": callable(static),
        }
        told = (
            f"{', '.join(name for _, name in near)} of {bases[0].__module__}.{bases[0].__qualname__}"
            if near
            else "none"
        )
        return Evidence(
            MappingProxyType(facts), (Observation(f"most like `{attribute}`", told, "the object of the error"),)
        )


def nearest(asked: str, names: Iterable[str]) -> list[tuple[float, str]]:
    """At most three names like ``asked``, the best first, each with its likeness (0 to 1)."""
    scored = ((difflib.SequenceMatcher(None, asked.lower(), name.lower()), name) for name in set(names))
    near = (
        (ratio, name)
        for matcher, name in scored
        if matcher.real_quick_ratio() >= _CUTOFF and (ratio := matcher.ratio()) >= _CUTOFF
    )
    return sorted(near, key=lambda one: (-one[0], one[1]))[:3]


def _names(owner: object, bases: list[type]) -> set[str]:
    """Public names of the classes, of the instance, and of the dictionaries behind its ``__getattr__``."""
    found = {name for base in bases for name in islice(vars(base), _MOST)}
    try:
        own = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        own = {}
    held = [own, *(own[name] for name in _HELD if isinstance(own.get(name), Mapping))] if type(own) is dict else []
    found |= {name for space in held for name in islice(space, _MOST) if isinstance(name, str)}
    return {name for name in found if name.isidentifier() and not name.startswith("_")}
