"""The names that the object of an ``AttributeError`` has, and those most like the one that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.nearest import Guess, guess, with_a_word

OWNERS = re.compile(r"(?:transformers|tokenizers|torch|datasets|peft|accelerate|huggingface_hub)(?:\.|$)")
"""Libraries whose objects are looked at."""
_HELD = ("_modules", "_parameters", "_buffers", "data")
"""Dictionaries in which modules of torch and the batches of a tokenizer keep what they give as attributes."""
_MOST = 5000
"""Names read of one dictionary, and classes looked at."""


class AttributeNamesProbe(Probe):
    """Reads names off the classes and the dictionaries of the live object; no property of it is run, and no ``__getattr__``.

    Facts: ``attribute``, ``kind`` (name of the object's class), ``library`` (the first base's that is of a library), ``tensor``
    (it is one), ``nearest`` (names most like it), ``sure`` (it can only be the first), ``callable`` (the first is a method), ``of`` (dotted name of the
    function or class of the library that the name is really of: then it is not misspelt), ``function`` (the same where it is a
    function). Modules are another probe's.
    """

    name: ClassVar[str] = "attribute-names"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        error = scene.exception
        owner, attribute = getattr(error, "obj", None), getattr(error, "name", None)
        if not isinstance(error, AttributeError) or owner is None or not isinstance(attribute, str):
            return Evidence(missing="the error does not say which object it is about")
        bases = type.mro(type(owner)) if not isinstance(owner, type) else type.mro(owner)
        library = next((found[0].rstrip(".") for base in bases if (found := OWNERS.match(str(base.__module__)))), "")
        if not library or isinstance(owner, ModuleType):
            return Evidence(missing="the object is of none of the libraries that are known")
        scene.deadline.check()
        is_output = any(base.__name__ == "ModelOutput" for base in bases)
        names = _names(owner, bases)
        if is_output:  # a field without a value (`hidden_states`, unless they were asked for) helps nobody
            names -= {name for name, value in object.__getattribute__(owner, "__dict__").items() if value is None}
        near = guess(attribute, names) or (with_a_word(attribute, names) if is_output else Guess())
        best = near.names[0] if near else ""
        static: Any = next((vars(base)[best] for base in bases if best in vars(base)), None)
        scene.deadline.check()
        tensor = any(base.__name__ == "Tensor" and base.__module__ == "torch" for base in bases)
        function = _function(attribute, scene) if tensor else ""
        of = function or (_output(attribute, scene) if tensor else "") or _relative(attribute, bases)
        facts = {
            "attribute": attribute,
            "kind": bases[0].__name__,
            "library": library,
            "tensor": tensor,
            "nearest": near.names,
            "sure": near.sure and not of,
            "callable": callable(static),
            "of": of,
            "function": function,
        }
        told = f"{', '.join(near.names)} of {bases[0].__module__}.{bases[0].__qualname__}" if near else "none"
        seen = [Observation(f"most like `{attribute}`", told, "the object of the error")]
        if of:
            seen.append(Observation(f"`{attribute}` is a name of", of.rpartition(".")[0], "the loaded modules"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _function(name: str, scene: Scene) -> str:
    """The function of torch that is called so."""
    for place in ("torch", "torch.nn.functional"):
        module = scene.module(place)
        if module is not None and not name.startswith("_") and callable(vars(module).get(name)):
            return f"{place}.{name}"
    return ""


def _output(name: str, scene: Scene) -> str:
    """The model's output that has a field called so."""
    outputs = scene.module("transformers.modeling_outputs")
    if outputs is None:
        return ""
    kinds = (kind for kind in vars(outputs).values() if name in getattr(kind, "__dataclass_fields__", ()))
    return next((f"{kind.__module__}.{kind.__qualname__}.{name}" for kind in kinds), "")


def _relative(name: str, bases: list[type]) -> str:
    """The class of a library that has the name, among those that inherit from a base of the object's class."""
    waiting = [base for base in bases if OWNERS.match(str(base.__module__))]
    done: set[type] = set()
    while waiting and len(done) < _MOST:
        kind = waiting.pop()
        for base in type.mro(kind):
            if base in done:
                continue
            done.add(base)
            if OWNERS.match(str(base.__module__)):
                if name in vars(base):
                    return f"{base.__module__}.{base.__qualname__}.{name}"
                waiting += type.__subclasses__(base)
    return ""


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
