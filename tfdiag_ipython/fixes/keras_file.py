"""Read the weights of an HDF5 file that transformers' TensorFlow classes wrote: names as PyTorch has them, and the values.

The rules of names are those of transformers' own ``modeling_tf_pytorch_utils`` (4.57.6). A file may be hostile or damaged: nothing in it
is followed to another file, and whatever goes wrong is one :class:`~tfdiag_ipython.errors.PlanError`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdiag_ipython.errors import PlanError

DATASETS = 50_000
"""More than any model has; a file with more is refused."""
_LAST = {"kernel": "weight", "gamma": "weight", "embeddings": "weight", "beta": "bias"}


@dataclass(frozen=True)
class Tensor:
    """One dataset of the HDF5 file and the PyTorch parameter that it becomes."""

    dataset: str
    name: str
    shape: tuple[int, ...]
    transposed: bool
    size: int


def pytorch_name(path: str) -> str:
    """``bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`` → ``bert.encoder.layer.0.output.dense.weight``.

    The first part is Keras's group for the layer, the second the root scope; ``a___b`` stands for ``b``, ``_._`` for a level.
    """
    name = re.sub(r":\d+$", "", path.partition("/")[2])
    name = re.sub(r"/[^/]*___([^/]*)/", r"/\1/", name).replace("_._", "/")
    parts = [part for part in name.split("/") if part][1:]
    return ".".join([*parts[:-1], _LAST.get(parts[-1], parts[-1])]) if parts else ""


def read(path: Path) -> list[Tensor]:
    """Every dataset of the file, or :class:`PlanError` saying why it is not weights that can be converted."""
    found: list[Tensor] = []
    with _opened(path) as (h5py, file):
        if "model_config" in file.attrs or "model_weights" in file:
            raise PlanError(
                f"{path} is a whole Keras model (model.save), not weights alone: its layers' names are its own."
            )
        if "layer_names" not in file.attrs:
            kind = "Keras's newer `.weights.h5` layout, which keeps no names" if "layers" in file else "another layout"
            raise PlanError(f"{path} has {kind}: only what save_pretrained or save_weights('….h5') wrote is converted.")

        def visit(name: str, thing: Any) -> None:
            if not isinstance(thing, h5py.Dataset):
                return
            if len(found) >= DATASETS:
                raise PlanError(f"{path} holds more than {DATASETS:,} tensors, which no model of transformers has.")
            if thing.external or thing.is_virtual or thing.dtype.kind != "f":
                raise PlanError(f"{path}: `{name[:200]}` is no plain tensor of numbers stored in this file.")
            transposed = bool(re.search(r"/kernel:\d+$", name)) and len(thing.shape) == 2
            found.append(Tensor(name, pytorch_name(name), tuple(thing.shape), transposed, thing.nbytes))

        file.visititems(visit)
    return found


def values(path: Path, tensors: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Any]]:
    """Each tensor with its array as PyTorch lays it out, one at a time; ``shape`` must be that of the PyTorch parameter."""
    numpy: Any = importlib.import_module("numpy")
    with _opened(path) as (_, file):
        for tensor in tensors:
            array = file[tensor.dataset][()]
            array = array.T if tensor.transposed else array
            yield tensor, numpy.ascontiguousarray(array).reshape(tensor.shape)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    h5py: Any = importlib.import_module("h5py")
    try:
        with h5py.File(path, "r") as file:
            yield h5py, file
    except PlanError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, RecursionError, MemoryError) as error:
        # h5py passes on what the HDF5 library says of a damaged file as any of these
        told = " ".join(str(error).split())[:200]
        raise PlanError(f"{path} cannot be read as HDF5 ({told}): get the file again.") from None
