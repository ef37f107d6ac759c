"""Which weight files a checkpoint holds, and what their first bytes say that they are (nothing is loaded or unpickled)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.sizes import file_size

FILES_SHOWN = 24
HEADER_READ = 4_000_000
"""Bytes read at most of a safetensors header; a longer one is not checked against the file's size."""
KERAS_WEIGHTS, KERAS_MODEL, KERAS_UNNAMED = (
    "HDF5 (Keras weights)",
    "HDF5 (whole Keras model)",
    "HDF5 (Keras weights without names, .weights.h5)",
)
TENSORFLOW_NAMES = "safetensors under TensorFlow's names"
"""What `save_pretrained` of a TensorFlow class wrote (transformers 4.3x to 4.57): metadata ``format`` is ``tf``."""
RENAMED_SAFETENSORS = "safetensors file"
KERAS_ARCHIVE, SAVED_MODEL = "Keras archive", "TensorFlow SavedModel"
CHECKPOINT_1, CHECKPOINT_2 = "TensorFlow 1 checkpoint", "TensorFlow 2 checkpoint (save_weights)"
INDEX_READ = 20_000_000
"""Bytes read at most of an index of shards; a longer one is not looked at."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HDF5_READ = 8192  # Keras writes the attributes of the root first
_FIRST = ("model.safetensors", "pytorch_model.bin", "tf_model.h5")
_TAIL = 65_557  # a zip archive's end record stands in its last 65,557 bytes
_WEIGHTS = re.compile(
    r"\.(safetensors|bin|pt|pth|ckpt|h5|keras|msgpack|gguf|onnx|pb|index)$|\.ckpt[^/]*\.(index|meta|data-\d+-of-\d+)$|\.data-\d+-of-\d+$"
)
_LOCALS = (
    "checkpoint_file",
    "ckpt_file",
    "shard_file",
    "file",
    "resolved_archive_file",
    "archive_file",
    "tf_checkpoint_path",
)
_IN_MESSAGE = re.compile(
    r"(?:found in directory|checkpoint file for '[^']*'\s+at|LOAD REPORT\S{0,8} from:) '?([^\s'\"]+)"
)


@dataclass(frozen=True)
class WeightFile:
    """One file: ``kind`` is what its bytes say, ``framework`` who reads it, ``problem`` why it cannot be read."""

    name: str
    size: int
    kind: str
    framework: str = ""
    problem: str = ""

    @property
    def named(self) -> str:
        """The kind with its article."""
        return (
            f"{'an' if self.kind[:1].lower() in 'aeiouh' else 'a'} {self.kind}"
            if self.kind != "unknown"
            else "no known format"
        )

    @property
    def told(self) -> str:
        return f"{self.kind}, {file_size(self.size)}" + (f": {self.problem}" if self.problem else "")


class WeightsFolderProbe(Probe):
    """The weight files of the folder or file that was being loaded.

    Facts: ``path`` (as given), ``folder`` (absolute, empty for a single file), ``files`` (mappings with ``name``, ``size``,
    ``kind``, ``framework``, ``problem``), ``model_type`` and ``architectures`` of ``config.json``, ``pad_token_id``, ``adapter`` (an
    ``adapter_config.json`` is there), ``shards`` (how many files the index of shards names), ``lacking`` (those that are not there),
    ``index_problem`` (why the index cannot be read), ``saver`` (``DeepSpeed``, ``FSDP`` or ``MLX``: whose own format is there), ``below`` (sub-folders with weights, where it has none itself), ``writable``, ``h5py`` (installed here), ``at`` (the one file being read when it failed).
    Sources: safetensors' format page, the HDF5, zip and pickle signatures, the Git LFS pointer specification.
    """

    name: ClassVar[str] = "weights-folder"
    usage: ClassVar[str] = "weights-folder [PATH]"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        given = next((path for path in _paths(failure, scene) if os.path.exists(path)), "")
        if not given:
            return Evidence(missing="no folder or file on this machine is named in the failing frames")
        at = next((path for path in _reading(scene) if os.path.isfile(path)), "")
        return survey(given, scene, at=at)

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        path = os.path.expanduser(arguments.strip() or ".")
        return survey(path, scene) if os.path.exists(path) else Evidence(missing=f"there is no file or folder {path}")


def survey(given: str, scene: Scene, *, at: str = "") -> Evidence:
    """What lies at a path that exists."""
    from importlib.util import find_spec

    folder = Path(given) if os.path.isdir(given) else None
    names = _listed(folder) if folder else [Path(given)]
    if at and Path(at).absolute() not in {path.absolute() for path in names}:
        names.insert(0, Path(at))
    files = []
    for path in names[:FILES_SHOWN]:
        scene.deadline.check()
        files.append(examine(path))
    config = read_config(folder or Path(given).parent)
    index = _shards(folder) if folder else _Shards()
    facts = {
        "path": given,
        "folder": str(folder.absolute()) if folder else "",
        "files": tuple(asdict(file) for file in files),
        "others": len(names) - len(files),
        "below": _below(folder) if folder and not files else (),
        "model_type": str(config.get("model_type") or ""),
        "architectures": tuple(str(name) for name in config.get("architectures") or ()),
        "config": bool(config),
        "pad_token_id": config.get("pad_token_id"),
        "adapter": bool(folder and (folder / "adapter_config.json").is_file()),
        "saver": _saver(folder) if folder else "",
        "writable": os.access(folder or Path(given).parent, os.W_OK),
        "h5py": find_spec("h5py") is not None,
        "at": Path(at).name if at else "",
        "shards": index.count,
        "lacking": index.lacking,
        "index_problem": index.problem,
    }
    seen = [Observation(file.name, file.told, given) for file in files]
    if not files:
        seen.append(Observation("Weight files", "none", given))
    if index.name:
        told = index.problem or (f"not there: {', '.join(index.lacking[:4])}" if index.lacking else "all are there")
        seen.append(Observation(index.name, f"{index.count} shards: {told}" if index.count else told, given))
    return Evidence(MappingProxyType(facts), tuple(seen))


def weight_files(evidence: Evidence, *frameworks: str) -> list[WeightFile]:
    """The probe's files again, of these frameworks only if any are named."""
    files = [WeightFile(**file) for file in evidence.get("files", ())]
    return [file for file in files if not frameworks or file.framework in frameworks]


def examine(path: Path) -> WeightFile:
    """What one file is by its name, size and first bytes."""
    if path.is_dir():
        saved = path / "saved_model.pb"
        return WeightFile(f"{path.name}/", saved.stat().st_size, SAVED_MODEL, "tensorflow")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            return _by_bytes(path.name, size, stream.read(512), stream)
    except OSError as error:
        return WeightFile(path.name, 0, "unreadable", problem=str(error.strerror or error))


def _by_bytes(name: str, size: int, head: bytes, stream: Any) -> WeightFile:
    if not size:
        return WeightFile(name, size, "empty file", problem="it holds nothing")
    if head.startswith(b"version https://git-lfs"):
        found = re.search(rb"size (\d+)", head)
        real = f" in place of the real {file_size(int(found[1]))}" if found else ""
        return WeightFile(name, size, "Git LFS pointer", problem=f"a text of {size} bytes{real}")
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return WeightFile(name, size, "web page", problem="a page was saved in place of the file")
    if name.endswith(".safetensors"):
        problem, written_by = _safetensors(size, head, stream)
        if written_by == "tf":
            return WeightFile(name, size, TENSORFLOW_NAMES, "tensorflow", problem)
        return WeightFile(name, size, "safetensors", "pytorch", problem)
    if head.startswith(_HDF5):
        stream.seek(0)
        start = stream.read(_HDF5_READ)
        return WeightFile(name, size, _hdf5_kind(start), "tensorflow", _hdf5_problem(size, start))
    if head.startswith(b"PK\x03\x04"):
        stream.seek(max(0, size - _TAIL))
        problem = "" if b"PK\x05\x06" in stream.read(_TAIL) else "cut short: the archive's end is missing"
        if name.endswith(".keras"):
            return WeightFile(name, size, KERAS_ARCHIVE, "tensorflow", problem)
        return WeightFile(name, size, "PyTorch archive", "pytorch", problem)
    if head.startswith(b"GGUF"):
        return WeightFile(name, size, "GGUF", "gguf")
    if name.endswith(".msgpack"):
        return WeightFile(name, size, "Flax weights", "flax")
    if name.endswith(".index"):
        # the first key of a checkpoint that Keras 2 wrote; TensorFlow 1 has names of variables only
        kind = CHECKPOINT_2 if b"_CHECKPOINTABLE_OBJECT_GRAPH" in head else CHECKPOINT_1
        return WeightFile(name, size, kind, "tensorflow")
    if re.search(r"\.meta$|\.data-\d+-of-\d+$", name):
        return WeightFile(name, size, "part of a TensorFlow checkpoint", "tensorflow")
    if name == "saved_model.pb":
        return WeightFile(name, size, SAVED_MODEL, "tensorflow")
    if head[8:9] == b"{" and not any(_safetensors(size, head, stream)[:1]):
        told = "under another name: rename it to model.safetensors"
        return WeightFile(name, size, RENAMED_SAFETENSORS, "pytorch", told)
    if head.startswith(b"\x80") and re.search(r"\.(bin|pt|pth|ckpt)$", name):
        return WeightFile(name, size, "pickle (PyTorch)", "pytorch")
    if re.search(r"\.(bin|pt|pth|h5|ckpt)$", name):
        shown = head[:8].hex(" ")
        return WeightFile(
            name, size, "unknown", problem=f"no weight format that this name promises starts with {shown}"
        )
    return WeightFile(name, size, Path(name).suffix.lstrip(".") or "file")


def _hdf5_kind(start: bytes) -> str:
    """Which of Keras's three uses of HDF5 it is, by the names that stand at the file's beginning."""
    if b"model_config" in start:
        return KERAS_MODEL
    if b"layer_names" not in start and b"vars\0" in start and b"layers\0" in start:
        return KERAS_UNNAMED
    return KERAS_WEIGHTS


def _hdf5_problem(size: int, start: bytes) -> str:
    """The superblock says where the file ends (HDF5 file format specification, II.A; 8-byte offsets, as Keras writes them)."""
    place = 40 if start[8:9] in (b"\0", b"\1") else 28
    promised = int.from_bytes(start[place : place + 8], "little")
    if len(start) < place + 8 or promised > size:
        whole = f" of {file_size(promised)}" if len(start) >= place + 8 and promised < 2**44 else ""
        return f"cut short: {file_size(size)}{whole}"
    return ""


@dataclass(frozen=True)
class _Shards:
    """What the index of a model in several files names."""

    name: str = ""
    count: int = 0
    lacking: tuple[str, ...] = ()
    problem: str = ""


def _shards(folder: Path) -> _Shards:
    for name in (f"{first}.index.json" for first in _FIRST):
        path = folder / name
        try:
            if path.stat().st_size > INDEX_READ:
                return _Shards(name, problem="too long to be looked at")
            named = sorted({str(file) for file in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _Shards(name, problem=f"cannot be read as an index of shards ({file_size(path.stat().st_size)})")
        # a name with a path in it is not looked up: it would lead out of the folder
        lacking = tuple(file for file in named if os.path.basename(file) == file and not (folder / file).is_file())
        return _Shards(name, len(named), lacking)
    return _Shards()


def _safetensors(size: int, head: bytes, stream: Any) -> tuple[str, str]:
    """Why a safetensors file cannot be whole (8 bytes of header length, the JSON header, then the tensors' bytes), and its ``format``."""
    length = int.from_bytes(head[:8], "little") if size >= 8 else 0
    if size < 8 or 8 + length > size:
        begins = head[8:9] == b"{" or size < 8
        return "cut short in its header" if begins else "it does not start like a safetensors file", ""
    if length > HEADER_READ:
        return "", ""
    stream.seek(8)
    try:
        header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "its header is not the JSON that safetensors writes", ""
    promised = 8 + length + max(ends, default=0)
    noted = header.get("__metadata__")
    written_by = str(noted.get("format", "")) if isinstance(noted, dict) else ""
    problem = f"cut short: {file_size(size)} of {file_size(promised)}" if promised > size else ""
    if promised < size:
        problem = f"{size - promised:,} bytes longer than its header says: something was written behind it"
    return problem, written_by


def _listed(folder: Path) -> list[Path]:
    """Weight files and SavedModel folders, the names that ``from_pretrained`` looks for first."""
    found = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number > 2000:
                break
            weights = _WEIGHTS.search(entry.name) and entry.is_file() and entry.name != "training_args.bin"
            saved_model = entry.is_dir() and os.path.isfile(os.path.join(entry.path, "saved_model.pb"))
            if weights or saved_model:
                found.append(Path(entry.path))
    return sorted(found, key=lambda path: (path.name not in _FIRST, path.name))


def _saver(folder: Path) -> str:
    """Whose checkpoint lies there in a format that only its own library reads, by the names that it writes."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(2000), strict=False)]
    if "zero_to_fp32.py" in names or any(re.fullmatch(r"global_step\d+", name) for name in names):
        return "DeepSpeed"
    if any(name.endswith(".distcp") or re.fullmatch(r"(?:pytorch_model|optimizer)_fsdp_\d+", name) for name in names):
        return "FSDP"
    return "MLX" if "weights.npz" in names else ""


def _below(folder: Path) -> tuple[str, ...]:
    """Sub-folders that hold weights, the newest checkpoint of the Trainer first."""
    found = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number > 500:
                break
            if entry.is_dir() and any(os.path.isfile(os.path.join(entry.path, name)) for name in _FIRST[:2]):
                found.append(entry.name)
    return tuple(
        sorted(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)] or [0], reverse=True)[:5]
    )


def read_config(folder: Path) -> Mapping[str, Any]:
    """The folder's ``config.json``; empty when it is missing, no JSON object or absurdly large."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > 1_000_000:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _reading(scene: Scene) -> Iterator[str]:
    """Single files that the libraries were reading, the innermost frame first."""
    for frame in scene.find_frames():
        file = frame.file.replace("\\", "/")
        if file.endswith("torch/serialization.py") and frame.function == "load":
            yield from _as_path(frame.locals.get("f"))
        elif "/transformers/" in file or "/safetensors/" in file:
            for name in _LOCALS:
                yield from _as_path(frame.locals.get(name))
            listed = frame.locals.get("checkpoint_files")
            if isinstance(listed, list) and len(listed) == 1:
                yield from _as_path(listed[0])


def _paths(failure: Failure, scene: Scene) -> Iterator[str]:
    """What the program gave to ``from_pretrained``, else the file being read, else the path that the message names."""
    for frame in reversed(scene.find_frames("from_pretrained", "_get_resolved_checkpoint_files")):
        folder = frame.locals.get("subfolder")
        for path in _as_path(frame.locals.get("pretrained_model_name_or_path")):
            yield os.path.join(path, folder) if isinstance(folder, str) and folder else path
    yield from _reading(scene)
    for raised in failure.chain:
        found = _IN_MESSAGE.search(raised.message)
        if found:
            yield found[1].rstrip(".,")


def _as_path(value: object) -> Iterator[str]:
    if isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)):
        yield os.fspath(value)
