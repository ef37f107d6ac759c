"""What the file is that was to be read as JSON: its size, its first bytes, the place at which it stops being JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

HEAD = 4096
"""Bytes that are read of the file to tell its format."""
WHOLE = 2**20
"""Bytes up to which a file is read whole, to see whether it is the broken one."""
_LOCALS = (
    "resolved_config_file",
    "config_file",
    "json_file",
    "resolved_processor_file",
    "resolved_image_processor_file",
    "fast_tokenizer_file",
    "index_filename",
)
_PLACE = re.compile(r"line (\d+) column (\d+) \(char (\d+)\)")
_SIGNATURES = (
    (b"version https://git-lfs", "git-lfs"),
    (b"GGUF", "gguf"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "bom"),
)


class ConfigurationFileProbe(Probe):
    """The file named in the message, or the one that the reader's frames hold and that is no JSON object.

    Facts: ``path``, ``size``, ``kind`` (``missing``, ``empty``, ``git-lfs``, ``html``, ``gguf``, ``zip``, ``gzip``, ``utf-16``, ``bom``,
    ``binary``, ``python`` = single quotes as Python prints them, ``not an object``, ``cut short``, ``text``), ``line``, ``column`` (0:
    not told) and ``near`` (the text before that place, at most 60 characters). Of a file of more than ``WHOLE`` bytes the beginning is
    read. Sources: the JSON readers' own messages, the signatures of the formats.
    """

    name: ClassVar[str] = "configuration-file"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        told = failure.says(r"config file at '([^'\n]{1,300})'")
        given = [told[1]] if told else [*_in_frames(scene)]
        found = next((path for path in given if _is_broken(path)), None)
        if found is None or not scene.live:
            return Evidence(missing="no broken file is named in the message or in the frames")
        scene.deadline.check()
        try:
            facts = _facts(Path(found), failure)
        except (OSError, ValueError) as error:
            return Evidence(missing=f"the file cannot be read ({getattr(error, 'strerror', None) or error})")
        facts["path"] = found
        seen = [Observation("file", f"{facts['size']:,} bytes, {facts['kind']}", found)]
        if facts["near"]:
            seen.append(Observation(f"line {facts['line']}, column {facts['column']}", facts["near"], found))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _in_frames(scene: Scene) -> Iterator[str]:
    """The files that the readers' frames hold, the innermost frame's first: an open one, one by its name, and a tokenizer's files."""
    for frame in reversed(list(scene.frames)):
        values = frame.locals
        if frame.function == "load" and frame.file.replace("\\", "/").endswith("json/__init__.py"):
            opened = values.get("fp")
            if isinstance(opened, io.IOBase) and isinstance(getattr(opened, "name", None), str):
                yield opened.name  # type: ignore[attr-defined]
        if "transformers" not in frame.file:
            continue
        yield from (str(values[name]) for name in _LOCALS if isinstance(values.get(name), (str, Path)))
        files = values.get("resolved_vocab_files")
        if type(files) is dict:
            yield from (path for path in files.values() if isinstance(path, str) and path.endswith(".json"))


def _is_broken(path: str) -> bool:
    """Whether there is no JSON object in a file; of a large one its own reader's word is taken."""
    try:
        if Path(path).stat().st_size > WHOLE:
            return True
        return not isinstance(json.loads(Path(path).read_bytes().decode()), dict)
    except (OSError, ValueError, RecursionError):
        return True


def _facts(path: Path, failure: Failure) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": 0, "kind": "missing", "line": 0, "column": 0, "near": ""}
    if not path.is_file():
        return facts
    facts["size"] = size = path.stat().st_size
    said, line, column, place = _stops(path, size, failure)
    with path.open("rb") as file:
        head = file.read(HEAD)
        if 0 <= place < 10**9:
            start = max(0, place - 60)  # characters are bytes wherever the file is plain ASCII
            file.seek(start)
            before = file.read(min(60, place - start) + 1).decode("utf-8", "replace")
            facts |= {"line": line, "column": column, "near": " ".join(before.split())[-60:]}
    facts["kind"] = _kind(head, size, said, place)
    return facts


def _stops(path: Path, size: int, failure: Failure) -> tuple[str, int, int, int]:
    """Why and where the file stops being JSON: line, column and place in it (-1: not told); of a large file as its own reader said."""
    if size <= WHOLE:
        try:
            json.loads(path.read_bytes().decode())
        except json.JSONDecodeError as error:
            return error.msg, error.lineno, error.colno, error.pos
        except (ValueError, RecursionError):
            pass
        return "", 0, 0, -1
    said = failure.find("JSONDecodeError")
    place = _PLACE.search(said.message) if said else None
    if said is None or place is None:
        return "", 0, 0, -1
    return said.message, int(place[1]), int(place[2]), int(place[3])


def _kind(head: bytes, size: int, said: str, place: int) -> str:
    known = next((kind for start, kind in _SIGNATURES if head.startswith(start)), "")
    text = head.lstrip()
    if known:
        return known
    if not text and size <= HEAD:
        return "empty"
    if re.match(rb"<(?:!doctype|html|head|\?xml)", text, re.IGNORECASE):
        return "html"
    if b"\x00" in head or head.count(b"\xef\xbf\xbd") > 8 or sum(byte < 9 for byte in head) > 8:
        return "binary"
    if said.startswith("Expecting property name") and re.match(rb"\{\s*'", text):
        return "python"
    if "Unterminated" in said or (place >= 0 and place >= size):
        return "cut short"
    return "text" if text[:1] == b"{" else "not an object"
