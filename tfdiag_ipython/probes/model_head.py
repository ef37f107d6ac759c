"""Which class would generate with the configuration of a model that has no ``generate``."""

from __future__ import annotations

import ast
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.names import groups
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.auto_classes import accepting_classes

WRITERS = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
    "AutoModelForVision2Seq",
    "AutoModelForCausalLM",
)
"""Auto classes whose models generate. Of a model type in several, the whole model stands before its decoder alone."""


class ModelHeadProbe(Probe):
    """The model of the ``AttributeError`` and the maps of the auto classes; nothing is asked of the model.

    Facts: ``kind`` (the model's class), ``model_type``, ``own`` (the class is not of Transformers), ``auto`` and ``target`` (auto class and
    class that generate for this model type; empty where there is none), ``encoder`` (it fills in masks and is not set up as a
    decoder), ``written`` (the name in the cells by which the model was made, empty where there is none), ``variable`` (the one that the
    cell binds to what it makes by that name, empty where it does so otherwise).
    """

    name: ClassVar[str] = "model-head"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        error = scene.exception
        owner = getattr(error, "obj", None)
        bases = type.mro(type(owner))
        if not isinstance(error, AttributeError) or not any(
            f"{base.__module__}.{base.__name__}" == "transformers.modeling_utils.PreTrainedModel" for base in bases
        ):
            return Evidence(missing="the object is no model of Transformers")
        config: Any = object.__getattribute__(owner, "__dict__").get("config")
        kind = bases[0]
        model_type = str(getattr(type(config), "model_type", "") or "")
        accepting = accepting_classes(scene, model_type)
        scene.deadline.check()
        auto = next((name for name in WRITERS if name in accepting), "")
        set_up = vars(config).get("is_decoder") if hasattr(config, "__dict__") else False
        names = [kind.__name__, *(name for name, other in accepting.items() if other == kind.__name__)]
        variables = {name for name, value in list(scene.namespace.items()) if value is owner}
        written, variable = _written(scene, names, variables)
        facts = {
            "kind": kind.__name__,
            "model_type": model_type,
            "own": not kind.__module__.startswith("transformers."),
            "auto": auto,
            "target": accepting.get(auto, ""),
            "encoder": "AutoModelForMaskedLM" in accepting and auto in ("", WRITERS[-1]) and not set_up,
            "written": written,
            "variable": variable,
        }
        seen = [Observation("The model", f"{kind.__name__} (model type `{model_type}`)", "the object of the error")]
        if auto:
            seen.append(Observation(auto, accepting[auto], "its map of model types"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _written(scene: Scene, names: list[str], variables: set[str]) -> tuple[str, str]:
    """How the newest cell made the model: by which of the names, bound to which of its variables; else the newest cell that uses a name.

    An import alone makes nothing.
    """
    used = ""
    for cell in reversed(scene.cells):
        scene.deadline.check()
        for statement in [node for group in groups(cell.source) for node in group]:
            here = [name for name in names if name in _used(statement)]
            used = used or next(iter(here), "")
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if here and isinstance(target, ast.Name) and target.id in variables:
                return here[0], target.id
    return used, ""


def _used(statement: ast.stmt) -> set[str]:
    nodes = list(ast.walk(statement))
    own = {node.id for node in nodes if isinstance(node, ast.Name)}
    return own | {node.attr for node in nodes if isinstance(node, ast.Attribute)}
