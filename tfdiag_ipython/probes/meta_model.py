"""Models of the program that have shapes but no weights: every parameter on PyTorch's ``meta`` device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.weights_folder import survey

MODELS, PARAMETERS = 20, 5000
"""Looked at, at most."""


class MetaModelProbe(Probe):
    """A model, in the program's variables or the failing frames, that is wholly on ``meta``.

    Facts: ``variable`` (its name), ``model`` (class), ``parameters`` (how many were looked at), ``folder`` (what it was loaded from),
    ``from_tf`` (a cell says so), ``weights`` (the facts of ``weights-folder`` for that folder, empty when it is not here).
    """

    name: ClassVar[str] = "meta-model"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        for variable, model, where in islice(_modules(scene, torch), MODELS):
            scene.deadline.check()
            devices = [parameter.is_meta for parameter in islice(model.parameters(), PARAMETERS)]
            if not devices or not all(devices):
                continue
            given = str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")
            folder = survey(given, scene) if given and os.path.isdir(given) else Evidence()
            facts = {
                "variable": variable,
                "model": type(model).__name__,
                "parameters": len(devices),
                "folder": given,
                "from_tf": any("from_tf" in cell.source for cell in scene.cells),
                "weights": dict(folder.facts),
            }
            seen = Observation(f"{variable}.parameters()", f"all {len(devices)} on meta", where)
            return Evidence(MappingProxyType(facts), (seen, *folder.seen))
        return Evidence(missing="no model that is wholly on meta was found")


def _modules(scene: Scene, torch: Any) -> Iterator[tuple[str, Any, str]]:
    """Modules by variable name: the program's own first, of these those that the failing cell names, then those of the failing frames, the outermost first."""
    done: set[int] = set()
    said = scene.cell.source if scene.cell else ""
    own = sorted(scene.namespace.items(), key=lambda item: re.search(rf"\b{re.escape(item[0])}\b", said) is None)
    places: list[tuple[Mapping[str, Any], str]] = [(dict(own), "your variables")]
    places += [(frame.locals, f"frame `{frame.function}`") for frame in islice(scene.frames, 12)]
    for values, where in places:
        for name, value in list(values.items()):
            # type(), not isinstance: a hostile __class__ property would run
            if not name.startswith("_") and issubclass(type(value), torch.nn.Module) and id(value) not in done:
                done.add(id(value))
                yield name, value, where
