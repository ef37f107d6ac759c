"""Where the program sets a generation parameter on a model's configuration."""

from __future__ import annotations

import ast
import re
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.source import python_of
from tfdiag_ipython.probe import Evidence, Probe, Scene

SET_ON_CONFIG = re.compile(
    r"You have modified the pretrained model configuration to control generation.{0,60}?values set - \{(?P<modified>[^}]{1,500})\}"
    r"|generation parameters are set in the model config\..{0,120}?Generation parameters found: \{(?P<found>[^}]{1,500})\}",
    re.S,
)


def named(text: str) -> tuple[str, ...]:
    """The names of the parameters in the dictionary that the message shows."""
    return tuple(re.findall(r"'(\w+)':", text))


class GenerationSettingsProbe(Probe):
    """Looks through the cells that were run for ``model.config.name = …``, with the names of the message; nothing is called.

    Only live models count: other objects have a ``config``, too. Facts: ``owners`` (what stands before ``.config``, as it is written),
    ``all`` (whether each name of the message is set so), ``read`` (whether a cell reads one there, which finds nothing once it is moved).
    """

    name: ClassVar[str] = "generation-settings"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        told = failure.says(SET_ON_CONFIG)
        names = set(named(told["modified"] or told["found"])) if told else set()
        found: dict[str, set[str]] = {}
        seen = []
        for cell in scene.cells:
            scene.deadline.check()
            for owner, name, line in assignments(cell.source):
                if name in names and _is_model(scene, owner):
                    found.setdefault(owner, set()).add(name)
                    seen.append(Observation(f"{owner}.config.{name} is set", f"line {line}", cell.label))
        if not found:
            return Evidence(missing="no cell that was run sets it on a model")
        together = set[str]().union(*found.values())
        read = any(name in names and owner in found for cell in scene.cells for owner, name in reads(cell.source))
        facts = {"owners": tuple(sorted(found)), "all": together == names, "read": read}
        return Evidence(MappingProxyType(facts), tuple(seen))


def _is_model(scene: Scene, path: str) -> bool:
    """Whether this variable, or what it holds under these attributes, is a model with both configurations."""
    first, *others = path.split(".")
    value: Any = scene.namespace.get(first)
    for name in (*others, "config"):
        own = getattr(value, "__dict__", None)
        if name == "config" and not (isinstance(own, dict) and "generation_config" in own):
            return False
        value = {**own, **own.get("_modules", {})}.get(name) if isinstance(own, dict) else None
    return any(base.__name__.lower() == "pretrainedconfig" for base in type.mro(type(value)))


def assignments(source: str) -> list[tuple[str, str, int]]:
    """Each ``owner.config.name = …`` of a cell: owner, name, line."""
    nodes = (node for node in ast.walk(_tree(source)) if isinstance(node, ast.Assign))
    targets = [(_of_config(target), target.lineno) for node in nodes for target in node.targets]
    return [(*found, line) for found, line in targets if found is not None]


def reads(source: str) -> list[tuple[str, str]]:
    """Each ``owner.config.name`` that a cell reads: owner and name."""
    found = (_of_config(node) for node in ast.walk(_tree(source)) if isinstance(getattr(node, "ctx", None), ast.Load))
    return [one for one in found if one is not None]


def _tree(source: str) -> ast.AST:
    try:
        return ast.parse(python_of(source) or "")
    except (SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


def _of_config(node: ast.AST) -> tuple[str, str] | None:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "config":
        return ast.unparse(node.value.value), node.attr
    return None
