"""Convert a Keras weights file (``tf_model.h5``) to safetensors without TensorFlow, beside the original.

The rules of names are those of transformers' own ``modeling_tf_pytorch_utils`` (4.57.6). What makes the result trustworthy is the
check: every name and shape must be one of the PyTorch model that ``config.json`` describes, none may be left over or missing.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.cells import EditCells, diff
from tfdiag_ipython.fixes.install import InstallPackages
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.probes.weights_folder import size_text

MODEL_TYPES = frozenset({"bert", "distilbert", "electra", "gpt2", "roberta"})
"""Architectures whose converted outputs were compared with TensorFlow's; another layout could fit by name and be wrong."""
SOURCE, TARGET = "tf_model.h5", "model.safetensors"
_LAST = {"kernel": "weight", "gamma": "weight", "embeddings": "weight", "beta": "bias"}


@dataclass(frozen=True)
class Tensor:
    """One dataset of the HDF5 file and the PyTorch parameter that it becomes."""

    dataset: str
    name: str
    shape: tuple[int, ...]
    transposed: bool
    size: int


class ConvertWeights(Plan):
    """Write ``model.safetensors`` beside ``tf_model.h5``; undo deletes the written file, and only if nobody changed it since.

    Where h5py is not installed the plan installs it first. ``edit`` takes ``from_tf=True`` out of the cells that have it.
    """

    def __init__(
        self,
        host: Host,
        folder: str,
        *,
        reruns: tuple[Cell, ...] = (),
        edit: EditCells | None = None,
        failure: Failure | None = None,
    ) -> None:
        super().__init__(host, reruns=edit.reruns if edit else reruns, failure=failure)
        self.folder = Path(folder)
        self.edit = edit
        self.install = InstallPackages(host, ("h5py",)) if find_spec("h5py") is None else None
        self._written: tuple[int, int] | None = None
        _check_place(self.folder)
        self.tensors = () if self.install else work_out(self.folder)

    @property
    def sources(self) -> tuple[str, ...]:
        """The new source of each edited cell."""
        return self.edit.sources if self.edit else ()

    def preview(self) -> Preview:
        size = f"about {size_text((self.folder / SOURCE).stat().st_size)}"
        what = f"{len(self.tensors)} tensors, {size}" if self.tensors else size
        text = f"Write {self.folder / TARGET} ({what}) from {SOURCE}."
        if self.install:
            text = f"{self.install.preview().text}\n{text}"
        if self.edit:
            changes = [diff(edit.cell.source, edit.source, edit.cell.label) for edit in self.edit.edits]
            text = "\n\n".join([text, *changes])
        note = f"{SOURCE} stays as it is; no file is overwritten. {self.then_runs()} Undo deletes the new file."
        return Preview("text", text, note)

    def execute(self, progress: Progress) -> str:
        if self.install:
            self.install.execute(progress)
        _check_place(self.folder)
        tensors = self.tensors or work_out(self.folder)
        target = self.folder / TARGET
        partial = target.with_name(f".{TARGET}.tfdiag-{os.getpid()}")
        try:
            _write(self.folder / SOURCE, tensors, partial, progress)
            _publish(partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
        self._written = _stamp(target)
        if self.edit:
            self.edit.execute(progress)
        return f"Wrote {target} with {len(tensors)} tensors; each name and shape is one of the PyTorch model's."

    def undo(self) -> str:
        target = self.folder / TARGET
        if self._written is None:
            raise PlanError("Nothing was written, so there is nothing to take back.")
        if not target.exists():
            told = f"{target} was gone already."
        elif _stamp(target) != self._written:
            raise PlanError(f"{target} was changed after tfdiag wrote it, so it was left alone: delete it by hand.")
        else:
            target.unlink()
            told = f"Deleted {target}."
        self._written = None
        return f"{told} {self.put_back()}".strip()


def work_out(folder: Path) -> tuple[Tensor, ...]:
    """The tensors to write for the HDF5 file of a folder, checked against the PyTorch model of its ``config.json``.

    Raises :class:`PlanError` with the names that do not fit, or why the file or the architecture is not convertible.
    """
    wanted, optional, prefix = _pytorch_model(folder)
    found = _read(folder / SOURCE)
    if prefix and not any(tensor.name in wanted for tensor in found):
        # TFBertModel's file has every weight below its main layer `bert`; PyTorch's BertModel has no such level.
        found = [_renamed(tensor, tensor.name.removeprefix(f"{prefix}.")) for tensor in found]
    checked: dict[str, Tensor] = {}
    wrong: list[str] = []
    for tensor in found:
        shape = tuple(reversed(tensor.shape)) if tensor.transposed else tensor.shape
        target = wanted.get(tensor.name)
        if target is None:
            wrong.append(f"{tensor.name} (not in the PyTorch model)")
        elif _squeezed(shape) != _squeezed(target):
            wrong.append(f"{tensor.name} ({list(shape)} in the file, {list(target)} in the model)")
        elif tensor.name not in checked:  # weights shared between layers stand in the file once per layer
            checked[tensor.name] = Tensor(tensor.dataset, tensor.name, target, tensor.transposed, tensor.size)
    wrong += [f"{name} (not in the file)" for name in wanted if name not in checked and name not in optional]
    if wrong:
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise PlanError(
            f"{SOURCE} does not fit the model of config.json: {'; '.join(wrong[:6])}{more}. Nothing was written."
        )
    return tuple(checked.values())


def pytorch_name(path: str) -> str:
    """``bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`` → ``bert.encoder.layer.0.output.dense.weight``.

    The first part is Keras's group for the layer, the second the root scope; ``a___b`` stands for ``b``, ``_._`` for a level.
    """
    name = re.sub(r":\d+$", "", path.partition("/")[2])
    name = re.sub(r"/[^/]*___([^/]*)/", r"/\1/", name).replace("_._", "/")
    parts = [part for part in name.split("/") if part][1:]
    return ".".join([*parts[:-1], _LAST.get(parts[-1], parts[-1])]) if parts else ""


def _read(path: Path) -> list[Tensor]:
    h5py: Any = importlib.import_module("h5py")
    found: list[Tensor] = []
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise PlanError(f"{path} cannot be read as HDF5 ({error}): get the file again.") from None
    with file:
        if "model_config" in file.attrs or "model_weights" in file:
            raise PlanError(
                f"{path} is a whole Keras model (model.save), not weights alone: its layers' names are its own."
            )
        if "layer_names" not in file.attrs:
            raise PlanError(f"{path} is not laid out as save_weights or save_pretrained of transformers write it.")

        def visit(name: str, thing: Any) -> None:
            if isinstance(thing, h5py.Dataset):
                transposed = bool(re.search(r"/kernel:\d+$", name)) and len(thing.shape) == 2
                found.append(Tensor(name, pytorch_name(name), tuple(thing.shape), transposed, thing.nbytes))

        file.visititems(visit)
    return found


def _renamed(tensor: Tensor, name: str) -> Tensor:
    return Tensor(tensor.dataset, name, tensor.shape, tensor.transposed, tensor.size)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """GPT-2's biases are (1, n) in TensorFlow and (n,) in PyTorch."""
    return tuple(size for size in shape if size != 1)


def _pytorch_model(folder: Path) -> tuple[dict[str, tuple[int, ...]], set[str], str]:
    """Names and shapes of the model that ``config.json`` describes (built without memory), those that may be missing, its prefix."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model_type, architectures = str(settings["model_type"]), settings.get("architectures") or ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PlanError(
            f"{folder} has no config.json that names a model type: the model's sizes are not known."
        ) from None
    if model_type not in MODEL_TYPES:
        known = ", ".join(sorted(MODEL_TYPES))
        raise PlanError(f"tfdiag cannot convert the architecture {model_type!r} yet, only {known}.")
    names = [str(name).removeprefix("TF") for name in architectures]
    kind = getattr(transformers, names[0], None) if names else None
    if kind is None:
        raise PlanError(
            f"config.json names no PyTorch class in `architectures` ({names or 'empty'}): add the one that was saved."
        )
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        with torch.device("meta"):
            model = kind(config)
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise PlanError(f"The model of config.json cannot be built ({type(error).__name__}: {told}).") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = [re.compile(str(pattern)) for pattern in getattr(model, "_tied_weights_keys", None) or ()]
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    optional = {name for name in wanted if name not in parameters or any(pattern.search(name) for pattern in tied)}
    return wanted, optional, str(model.base_model_prefix or "")


def _check_place(folder: Path) -> None:
    source, target = folder / SOURCE, folder / TARGET
    if not source.is_file():
        raise PlanError(f"{source} is not there (any more).")
    if target.exists():
        raise PlanError(f"{target} exists already, and tfdiag overwrites nothing.")
    if not os.access(folder, os.W_OK):
        raise PlanError(f"{folder} cannot be written to: copy it to a place of your own and load it from there.")
    if shutil.disk_usage(folder).free < source.stat().st_size * 1.05:
        raise PlanError(f"The disk of {folder} has no room for another {size_text(source.stat().st_size)}.")


def _write(source: Path, tensors: tuple[Tensor, ...], partial: Path, progress: Progress) -> None:
    h5py: Any = importlib.import_module("h5py")
    numpy: Any = importlib.import_module("numpy")
    save_file: Any = importlib.import_module("safetensors.numpy").save_file
    arrays = {}
    with h5py.File(source, "r") as file:
        for number, tensor in enumerate(tensors):
            progress.report(f"Converting {tensor.name} …", number / len(tensors))
            array = file[tensor.dataset][()]
            array = array.T if tensor.transposed else array
            arrays[tensor.name] = numpy.ascontiguousarray(array).reshape(tensor.shape)
    save_file(arrays, str(partial), metadata={"format": "pt"})


def _publish(partial: Path, target: Path) -> None:
    """Give the finished file its name; a link, unlike a rename, fails where somebody made a file of that name meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise PlanError(f"{target} exists already, and tfdiag overwrites nothing.") from None
    except OSError:  # a file system without hard links
        if target.exists():
            raise PlanError(f"{target} exists already, and tfdiag overwrites nothing.") from None
        os.rename(partial, target)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
