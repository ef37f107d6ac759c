"""The Keras model that the failing call was about, and whether it is one of transformers'."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

_FILE_NAMES = ("filepath", "filepath_or_fp", "path")
_KERAS = ("/tf_keras/", "/keras/")


class KerasModelProbe(Probe):
    """The model and the file of the innermost Keras frame that has both or either.

    Facts: ``variable`` (its name in the program, or empty), ``model`` (class), ``ours`` (it is one of transformers' TF… models),
    ``inside`` (classes of transformers among its own attributes), ``file`` (what was to be saved or loaded).
    """

    name: ClassVar[str] = "keras-model"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        model: Any = None
        file = ""
        for frame in scene.find_frames():
            scene.deadline.check()
            if not any(part in frame.file.replace("\\", "/") for part in _KERAS):
                continue
            values = frame.locals
            file = file or next((path for name in _FILE_NAMES for path in _as_path(values.get(name))), "")
            candidate = values.get("model", values.get("self"))
            if model is None and "save_weights" in dir(type(candidate)):
                model = candidate
        if model is None and not file:
            return Evidence(missing="no Keras model or file is in the failing frames")
        inside = sorted({type(part).__name__ for part in _parts(model) if _of_transformers(part)})
        facts = {
            "variable": next(
                (name for name, value in scene.namespace.items() if value is model and name[:1] != "_"), ""
            ),
            "model": type(model).__name__ if model is not None else "",
            "ours": model is not None and _of_transformers(model),
            "inside": tuple(inside),
            "file": file,
        }
        told = f"a {facts['model']}" + (" of transformers" if facts["ours"] else "")
        seen = [Observation(str(facts["variable"] or "the model"), told, "Keras's frames")] if model is not None else []
        if file:
            seen.append(Observation("file", file, "Keras's frames"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _of_transformers(value: object) -> bool:
    return any(
        base.__module__.startswith("transformers.") and base.__name__.startswith("TF") for base in type(value).__mro__
    )


def _parts(model: object) -> Iterator[object]:
    """What stands in the model's own attributes, one level deep; no property of it is run."""
    for value in list(getattr(model, "__dict__", {}).values())[:200]:
        yield from value[:50] if type(value) in {list, tuple} else (value,)


def _as_path(value: object) -> Iterator[str]:
    if isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)):
        yield os.fspath(value)
