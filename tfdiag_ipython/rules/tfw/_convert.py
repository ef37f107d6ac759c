"""What the rules about TensorFlow weights share: when a folder is convertible, the fix, its plan, and words for versions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Fix
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.convert import MODEL_TYPES, SOURCE, TARGET, ConvertWeights, differs_from_tensorflow
from tfdiag_ipython.fixes.loading import load_from
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.weights_folder import WeightFile, weight_files
from tfdiag_ipython.rule import Rule
from tfdiag_ipython.sizes import file_size

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure

CONVERT = "convert-to-safetensors"
SHARD = re.compile(r"tf_model-\d+-of-\d+\.h5")
"""One of several files in which a TensorFlow class saved a model."""


def offer_conversion(rule: Rule, seen: Evidence) -> tuple[Fix, ...]:
    """The conversion of the folder's ``tf_model.h5``; only shown, with the reason, where it cannot be carried out."""
    named = [file.name for file in weight_files(seen, "tensorflow")] if seen and seen["folder"] else []
    if SOURCE not in named and not any(map(SHARD.fullmatch, named)):
        return ()
    reason = _hindrance(seen)
    told = (
        reason
        or f"Writes {TARGET} beside {SOURCE if SOURCE in named else 'the shards'}, without TensorFlow; every name and shape is checked first. By hand: "
        "`save_pretrained` after `from_tf=True`, in transformers 4.50 with TensorFlow."
    )
    fix = rule.offer(CONVERT, f"Convert {SOURCE} to {TARGET}", told, display=bool(reason), folder=seen["folder"])
    differs = "" if reason else differs_from_tensorflow(seen.facts)
    if differs:
        told = f"{told} {differs}"
    if not reason and not seen["h5py"]:
        told = f"{told} Needs h5py, which it installs first."
    if not reason and (differs or not seen["h5py"]):
        fix = replace(fix, applicability=Applicability.UNSAFE, explanation=told)
    return (fix,)


def plan_conversion(fix: Fix, scene: Scene) -> ConvertWeights:
    """Convert, take ``from_tf=True`` out of the cells that say it, let a call that gave a file load its folder, and run what failed again."""
    if scene.host is None or scene.cell is None:
        raise PlanError("The cell that failed is not known here: run it again.")
    edit: EditCells | None = None
    asked = str(fix.parameters.get("asked", ""))
    if asked:  # a file was given

        def change(source: str) -> str:
            return without_from_tf(load_from(source, asked, str(fix.parameters["folder"])))

        edit = edit_cells(scene, change)
    elif any("from_tf" in cell.source for cell in scene.cells):
        try:
            edit = edit_cells(scene, without_from_tf)
        except PlanError:
            edit = None  # the word stands in a comment or a text
    return ConvertWeights(scene.host, str(fix.parameters["folder"]), reruns=(scene.cell,), edit=edit)


def without_from_tf(source: str) -> str:
    """The cell with ``from_tf`` taken out of every ``from_pretrained`` call."""
    return set_arguments(source, calls_to("from_pretrained"), {"from_tf": None})


def files_told(files: list[WeightFile]) -> str:
    """``tf_model.h5, 440 MB`` and how many more."""
    if not files:
        return ""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0].name}, {file_size(files[0].size)}{more}"


def path_told(path: str, limit: int = 60) -> str:
    """A path of any length in a title: its end says most."""
    path = " ".join(path.split())
    return f"`{path}`" if len(path) <= limit else f"`…{path[-limit:]}`"


def release(failure: Failure) -> tuple[int, ...]:
    """The transformers version as numbers; empty when it is not known."""
    parts = failure.versions.get("transformers", "").split(".")[:3]
    return tuple(int(part) for part in parts) if parts and all(part.isdigit() for part in parts) else ()


def reader_told(failure: Failure) -> str:
    """What the program's transformers can do with TensorFlow weights."""
    version = release(failure)
    name = f"transformers {failure.versions.get('transformers', '')}".strip()
    if not version:
        return "transformers 5 cannot read them; 4.50 and older only with TensorFlow installed"
    if version >= (5,):
        return f"{name} cannot read them"
    if version >= (4, 52, 4):
        return f"{name} cannot load them (its from_tf=True returns a model without weights)"
    return f"{name} reads them only with from_tf=True and TensorFlow"


def _hindrance(seen: Evidence) -> str:
    if not seen["config"]:
        return "Needs the model's config.json beside it: copy it there, then run the cell again."
    if seen["model_type"] not in MODEL_TYPES:
        return f"tfdiag converts {', '.join(sorted(MODEL_TYPES))}; `{seen['model_type']}` needs transformers 4.50 with TensorFlow."
    if not seen["architectures"]:
        return "config.json does not say which class was saved (`architectures`): add it, then run the cell again."
    if not seen["writable"]:
        return "The folder cannot be written to: copy it to a place of your own and load it from there."
    if any(file.name == TARGET for file in weight_files(seen)):
        return f"{TARGET} exists already; tfdiag overwrites nothing."
    return ""
