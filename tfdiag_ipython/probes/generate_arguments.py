"""The names that a failing call of ``generate`` takes: its own, its configuration's and the model's."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene


class GenerateArgumentsProbe(Probe):
    """Reads the frame of ``generate``; nothing is called.

    Facts: ``model`` (name of its class), ``names`` (keyword arguments of ``generate``, settings of the generation configuration,
    arguments of the model's ``forward``).
    """

    name: ClassVar[str] = "generate-arguments"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        frame = next(iter(scene.find_frames("generate", file="generation/utils.py")), None)
        if frame is None:
            return Evidence(missing="the frame of generate() is gone")
        model = type(frame.locals.get("self"))
        configuration: Any = frame.locals.get("generation_config")
        scene.deadline.check()
        names = _parameters(getattr(model, "generate", None)) | _parameters(getattr(model, "forward", None))
        if configuration is not None:
            names |= {name for name in vars(configuration) if not name.startswith("_")}
        facts = {"model": model.__name__, "names": tuple(sorted(names - {"self", "kwargs", "args"}))}
        told = f"{len(facts['names'])} of generate(), its configuration and {model.__name__}.forward"
        return Evidence(
            MappingProxyType(facts), (Observation("arguments that are taken", told, "the frame of generate()"),)
        )


def _parameters(function: Any) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()
