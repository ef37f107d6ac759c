"""Convert a Keras weights file (``tf_model.h5``) to safetensors without TensorFlow, beside the original.

What makes the result trustworthy are two checks. Before anything is written, every name and shape must be one of the PyTorch model that
``config.json`` describes, none may be left over or missing. Afterwards ``from_pretrained`` loads what was written, and every parameter must
have the values of the HDF5 file; if not, the written file is deleted again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.cells import EditCells, diff
from tfdiag_ipython.fixes.install import InstallPackages
from tfdiag_ipython.fixes.keras_file import INDEX, Tensor, read, values
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.probes.weights_folder import read_config
from tfdiag_ipython.sizes import file_size

MODEL_TYPES = frozenset({"albert", "bert", "distilbert", "electra", "gpt2", "roberta", "t5"})
"""Architectures whose converted outputs were compared with TensorFlow's; another layout could fit by name and be wrong."""
SOURCE, TARGET = "tf_model.h5", "model.safetensors"
_UNREAD = {"albert": {"predictions.bias": "predictions.decoder.bias"}}
"""Weights that TensorFlow's class keeps and never reads, and the one that it reads instead; PyTorch's class has one for both."""
_IGNORED: dict[str, tuple[tuple[str, object], ...]] = {
    "gpt2": (("scale_attn_by_inverse_layer_idx", True), ("scale_attn_weights", False)),
}
"""Settings and the value with which PyTorch computes something else than TensorFlow's class, which never read them."""


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
        size = f"about {file_size(_size(self.folder))}"
        what = f"{len({tensor.name for tensor in self.tensors})} tensors, {size}" if self.tensors else size
        text = f"Write {self.folder / TARGET} ({what}) from {source_of(self.folder).name}."
        if self.install:
            text = f"{self.install.preview().text}\n{text}"
        if self.edit:
            changes = [diff(edit.cell.source, edit.source, edit.cell.label) for edit in self.edit.edits]
            text = "\n\n".join([text, *changes])
        note = f"{source_of(self.folder).name} stays as it is; no file is overwritten. {self.then_runs()} Undo deletes the new file."
        if warning := differs_from_tensorflow(read_config(self.folder)):
            note = f"{warning} {note}"
        return Preview("text", text, note)

    def execute(self, progress: Progress) -> str:
        if self.install:
            self.install.execute(progress)
        _check_place(self.folder)
        tensors = self.tensors or work_out(self.folder)
        _check_room(self.folder, sum(tensor.size for tensor in tensors))
        target = self.folder / TARGET
        partial = target.with_name(f".{TARGET}.tfdiag-{os.getpid()}")
        try:
            _write(source_of(self.folder), tensors, partial, progress)
            _publish(partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
        self._written = _stamp(target)
        try:
            verified = _check_loaded(self.folder, tensors, progress)
        except BaseException:
            target.unlink()
            self._written = None
            raise
        if self.edit:
            self.edit.execute(progress)
        return " ".join(
            filter(None, (f"Wrote {target}. {verified}", differs_from_tensorflow(read_config(self.folder))))
        )

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
    _, wanted, optional, prefix = _pytorch_model(folder)
    source = source_of(folder)
    found = read(source)
    if source.name == INDEX:  # the names begin with the root scope where the model was built by being called
        inner = [replace(tensor, name=tensor.name.partition(".")[2]) for tensor in found]
        found = max(found, inner, key=lambda one: sum(tensor.name in wanted for tensor in one))
    if prefix and not any(tensor.name in wanted for tensor in found):
        # TFBertModel's file has every weight below its main layer `bert`; PyTorch's BertModel has no such level.
        found = [replace(tensor, name=tensor.name.removeprefix(f"{prefix}.")) for tensor in found]
    unread = _UNREAD.get(str(read_config(folder).get("model_type")), {})
    by_name = {tensor.name: tensor for tensor in found}
    found = [replace(by_name.get(unread.get(tensor.name, ""), tensor), name=tensor.name) for tensor in found]
    checked: list[Tensor] = []  # weights shared between layers stand in the file once per layer
    wrong: list[str] = []
    for tensor in found:
        shape = tuple(reversed(tensor.shape)) if tensor.transposed else tensor.shape
        target = wanted.get(tensor.name)
        if target is None:
            wrong.append(f"{tensor.name} (not in the PyTorch model)")
        elif _squeezed(shape) != _squeezed(target):
            wrong.append(f"{tensor.name} ({list(shape)} in the file, {list(target)} in the model)")
        else:
            checked.append(replace(tensor, shape=target))
    names = {tensor.name for tensor in checked}
    wrong += [f"{name} (not in the file)" for name in wanted if name not in names and name not in optional]
    if wrong:
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise PlanError(
            f"{source.name} does not fit the model of config.json: {'; '.join(wrong[:6])}{more}. Nothing was written."
        )
    return tuple(checked)


def differs_from_tensorflow(config: Mapping[str, Any]) -> str:
    """Settings that TensorFlow's classes ignored and PyTorch's obey: the weights are the same, the outputs are not. Else empty."""
    padding = config.get("pad_token_id", 1)
    if config.get("model_type") == "roberta" and padding != 1:
        return (
            f"TensorFlow's RoBERTa counted positions from padding index 1 and ignored pad_token_id={padding}, which PyTorch obeys: "
            "for TensorFlow's outputs load it with pad_token_id=1."
        )
    ignored = [
        f"{name}={value}"
        for name, value in _IGNORED.get(str(config.get("model_type")), ())
        if config.get(name) == value
    ]
    if ignored:
        return f"TensorFlow's class ignored {', '.join(ignored)}, which PyTorch's obeys: outputs will differ from TensorFlow's."
    return ""


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """GPT-2's biases are (1, n) in TensorFlow and (n,) in PyTorch."""
    return tuple(size for size in shape if size != 1)


def _pytorch_model(folder: Path) -> tuple[Any, dict[str, tuple[int, ...]], set[str], str]:
    """The class that ``config.json`` names, names and shapes of its tensors, those that may be missing, its prefix (built without memory)."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    settings = read_config(folder)
    model_type, architectures = str(settings.get("model_type") or ""), settings.get("architectures") or ()
    if not model_type or not isinstance(architectures, list | tuple):
        raise PlanError(f"{folder} has no config.json that names a model type: the model's sizes are not known.")
    if model_type not in MODEL_TYPES:
        known = ", ".join(sorted(MODEL_TYPES))
        raise PlanError(f"tfdiag cannot convert the architecture {model_type!r} yet, only {known}.")
    names = [str(name).removeprefix("TF") for name in architectures]
    kind = getattr(transformers, names[0], None) if names else None
    if not isinstance(kind, type) or not issubclass(kind, torch.nn.Module):
        raise PlanError(
            f"config.json names no PyTorch class in `architectures` ({names or 'empty'}): add the one that was saved."
        )
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = kind(config)
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise PlanError(f"The model of config.json cannot be built ({type(error).__name__}: {told}).") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = [re.compile(str(pattern)) for pattern in getattr(model, "_tied_weights_keys", None) or ()]
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    optional = {name for name in wanted if name not in parameters or any(pattern.search(name) for pattern in tied)}
    return kind, wanted, optional, str(model.base_model_prefix or "")


def _check_place(folder: Path) -> None:
    source, target = source_of(folder), folder / TARGET
    if not source.is_file():
        raise PlanError(f"{source} is not there (any more).")
    if target.exists():
        raise PlanError(f"{target} exists already, and tfdiag overwrites nothing.")
    if not os.access(folder, os.W_OK):
        raise PlanError(f"{folder} cannot be written to: copy it to a place of your own and load it from there.")
    _check_room(folder, _size(folder))


def source_of(folder: Path) -> Path:
    """``tf_model.h5``, or the index of its shards where the model was saved in several files."""
    return folder / INDEX if not (folder / SOURCE).exists() and (folder / INDEX).is_file() else folder / SOURCE


def _size(folder: Path) -> int:
    """Bytes of the weights that are read."""
    source = source_of(folder)
    files = [source] if source.name == SOURCE else list(folder.glob("tf_model-*-of-*.h5"))
    return sum(file.stat().st_size for file in files)


def _check_room(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size * 1.05:
        raise PlanError(f"The disk of {folder} has no room for another {file_size(size)}.")


def _write(source: Path, tensors: tuple[Tensor, ...], partial: Path, progress: Progress) -> None:
    save_file: Any = importlib.import_module("safetensors.numpy").save_file
    arrays: dict[str, Any] = {}
    for number, (tensor, array) in enumerate(values(source, tensors)):
        progress.report(f"Converting {tensor.name} …", number / len(tensors))
        if tensor.name in arrays and arrays[tensor.name].tobytes() != array.tobytes():
            raise PlanError(
                f"{source.name} holds `{tensor.name}` twice with different values: which is meant cannot be told."
            )
        arrays[tensor.name] = array
    save_file(arrays, str(partial), metadata={"format": "pt"})


def _check_loaded(folder: Path, tensors: tuple[Tensor, ...], progress: Progress) -> str:
    """Load what was written as the program will, and compare every parameter with the HDF5 file; says what was verified."""
    torch: Any = importlib.import_module("torch")
    kind = _pytorch_model(folder)[0]
    progress.report("Loading the result …")
    try:
        with torch.random.fork_rng(devices=()):
            model, report = kind.from_pretrained(
                str(folder), output_loading_info=True, local_files_only=True, use_safetensors=True
            )
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise PlanError(
            f"The result cannot be loaded ({type(error).__name__}: {told}); it was deleted again."
        ) from error
    loaded = model.state_dict()
    wrong = [str(name) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in report[key]]
    for tensor, array in values(source_of(folder), tensors):
        progress.report(f"Comparing {tensor.name} …")
        found = loaded.get(tensor.name)
        given = None if found is None else torch.from_numpy(array).to(found.dtype)
        same = given is not None and found.shape == given.shape
        if not same or not torch.allclose(found.cpu(), given, rtol=0, atol=0, equal_nan=True):
            wrong.append(tensor.name)
    if wrong:
        raise PlanError(f"The result does not load as it should ({', '.join(wrong[:6])}); it was deleted again.")
    count = len({tensor.name for tensor in tensors})
    return f"{kind.__name__}.from_pretrained loaded it: all {count} tensors equal those of {source_of(folder).name}, none missing or left over."


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
