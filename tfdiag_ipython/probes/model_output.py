"""What a model's output holds, where it was asked for something else."""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene


class ModelOutputProbe(Probe):
    """The ``ModelOutput`` of the ``AttributeError``: the names of its fields, no value.

    Facts: ``kind`` (its class), ``attribute``, ``holds`` (fields with a value), ``empty`` (fields without one), ``name`` (the variable
    that it is bound to, empty where there is none).
    """

    name: ClassVar[str] = "model-output"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        error = scene.exception
        owner, attribute = getattr(error, "obj", None), getattr(error, "name", None)
        kind = type(owner)
        is_output = any(base.__name__ == "ModelOutput" and "transformers" in base.__module__ for base in type.mro(kind))
        if not isinstance(error, AttributeError) or not isinstance(attribute, str) or not is_output:
            return Evidence(missing="the object is no output of a model")
        values = object.__getattribute__(owner, "__dict__")
        fields = vars(kind).get("__dataclass_fields__", {})
        holds = tuple(name for name in fields if values.get(name) is not None)
        scene.deadline.check()
        facts = {
            "kind": kind.__name__,
            "attribute": attribute,
            "holds": holds,
            "empty": tuple(name for name in fields if values.get(name) is None),
            "name": next(
                (name for name, value in list(scene.namespace.items()) if value is owner and name[0] != "_"), ""
            ),
        }
        seen = [Observation(f"{kind.__name__} holds", ", ".join(holds) or "nothing", "the object of the error")]
        return Evidence(MappingProxyType(facts), tuple(seen))
