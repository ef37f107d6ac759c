"""Read the weights of an HDF5 file that transformers' TensorFlow classes wrote: names as PyTorch has them, and the values.

The rules of names are those of transformers' own ``modeling_tf_pytorch_utils`` (4.57.6). A file may be hostile or damaged: nothing in it
is followed to another file, and whatever goes wrong is one :class:`~tfdiag_ipython.errors.PlanError`.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tfdiag_ipython.errors import PlanError

INDEX = "tf_model.h5.index.json"
"""Names the shards of a model that `save_pretrained` of a TensorFlow class wrote in several files."""
INDEX_READ = 20_000_000
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
    file: str = ""
    """The shard that holds it, beside the index; empty: the file itself."""


def pytorch_name(path: str) -> str:
    """``bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`` → ``bert.encoder.layer.0.output.dense.weight``.

    The first part is Keras's group for the layer, the second the root scope; ``a___b`` stands for ``b``, ``_._`` for a level.
    """
    name = re.sub(r":\d+$", "", path.partition("/")[2])
    name = re.sub(r"/[^/]*___([^/]*)/", r"/\1/", name).replace("_._", "/")
    parts = [part for part in name.split("/") if part][1:]
    return ".".join([*parts[:-1], _LAST.get(parts[-1], parts[-1])]) if parts else ""


def read(path: Path) -> list[Tensor]:
    """Every dataset of the file, or of the shards of an index; :class:`PlanError` says why they are not convertible weights."""
    if path.name == INDEX:
        return _read_shards(path)
    with _opened(path) as (h5py, file):
        return [
            Tensor(name, pytorch_name(name), shape, _transposed(name, shape), size)
            for name, shape, size in _datasets(h5py, file, path)
        ]


def _read_shards(index: Path) -> list[Tensor]:
    """A shard's datasets lack the first part of their names, which the index has; it alone tells a head's bias from another's."""
    try:
        if index.stat().st_size > INDEX_READ:
            raise PlanError(f"{index} is too long for an index.")
        named = {
            str(key): str(file) for key, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PlanError(f"{index} cannot be read as an index of shards: get it again.") from None
    found: list[Tensor] = []
    for shard in sorted(set(named.values())):
        path = index.parent / shard
        if Path(shard).name != shard or not path.is_file():
            raise PlanError(f"{index.name} names {shard[:100]}, which is not there: get the missing file.")
        with _opened(path) as (h5py, file):
            for dataset, shape, size in _datasets(h5py, file, path):
                keys = [
                    key for key, place in named.items() if place == shard and dataset in (key, key.partition("/")[2])
                ]
                if len(keys) != 1:
                    raise PlanError(f"{path} holds `{dataset[:200]}`, which {index.name} does not name once.")
                name = pytorch_name(f"layer/root/{keys[0]}")
                found.append(Tensor(dataset, name, shape, _transposed(f"/{dataset}", shape), size, shard))
        if len(found) > DATASETS:
            raise PlanError(f"{index} names more than {DATASETS:,} tensors, which no model of transformers has.")
    return found


def _transposed(name: str, shape: tuple[int, ...]) -> bool:
    return bool(re.search(r"/kernel:\d+$", name)) and len(shape) == 2


def _datasets(h5py: Any, file: Any, path: Path) -> list[tuple[str, tuple[int, ...], int]]:
    """Name, shape and bytes of every dataset of an open file."""
    if "model_config" in file.attrs or "model_weights" in file:
        raise PlanError(
            f"{path} is a whole Keras model (model.save), not weights alone: its layers' names are its own."
        )
    if "layer_names" not in file.attrs:
        kind = "Keras's newer `.weights.h5` layout, which keeps no names" if "layers" in file else "another layout"
        raise PlanError(f"{path} has {kind}: only what save_pretrained or save_weights('….h5') wrote is converted.")
    found: list[tuple[str, tuple[int, ...], int]] = []

    def visit(name: str, thing: Any) -> None:
        if not isinstance(thing, h5py.Dataset):
            return
        if len(found) >= DATASETS:
            raise PlanError(f"{path} holds more than {DATASETS:,} tensors, which no model of transformers has.")
        if thing.external or thing.is_virtual or thing.dtype.kind != "f":
            raise PlanError(f"{path}: `{name[:200]}` is no plain tensor of numbers stored in this file.")
        found.append((name, tuple(thing.shape), thing.nbytes))

    file.visititems(visit)
    return found


def values(path: Path, tensors: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Any]]:
    """Each tensor with its array as PyTorch lays it out, one at a time; ``shape`` must be that of the PyTorch parameter."""
    for shard, held in groupby(tensors, key=lambda tensor: tensor.file):
        yield from _values(path.parent / shard if shard else path, tuple(held))


def _values(path: Path, tensors: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Any]]:
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
