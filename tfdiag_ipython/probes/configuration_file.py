"""What the file is that was to be read as JSON: its size, its first bytes, the place at which it stops being JSON."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

HEAD = 4096
"""Bytes that are read of the file, whatever its size."""
_LOCALS = (
    "resolved_config_file",
    "config_file",
    "json_file",
    "resolved_processor_file",
    "resolved_image_processor_file",
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
    """The file named in the message, or in the frames of the reader.

    Facts: ``path``, ``size``, ``kind`` (``missing``, ``empty``, ``git-lfs``, ``html``, ``gguf``, ``zip``, ``gzip``, ``utf-16``, ``bom``,
    ``binary``, ``python`` = single quotes as Python prints them, ``not an object``, ``cut short``, ``text``), ``line``, ``column`` (0:
    not told) and ``near`` (the text before that place, at most 60 characters). At most 8 kB are read. Sources: the JSON reader's own
    message, the signatures of the formats.
    """

    name: ClassVar[str] = "configuration-file"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        told = failure.says(r"config file at '([^'\n]{1,300})'")
        given: Any = told[1] if told else None
        for frame in reversed(list(scene.frames)) if given is None else ():
            values = frame.locals if "transformers" in frame.file else {}
            given = next((values[name] for name in _LOCALS if isinstance(values.get(name), (str, Path))), given)
        if given is None or not scene.live:
            return Evidence(missing="no file is named in the message or in the frames")
        try:
            facts = _facts(Path(given), failure)
        except (OSError, ValueError) as error:
            return Evidence(missing=f"the file cannot be read ({getattr(error, 'strerror', None) or error})")
        facts["path"] = str(given)
        seen = [Observation("file", f"{facts['size']:,} bytes, {facts['kind']}", str(given))]
        if facts["near"]:
            seen.append(Observation(f"line {facts['line']}, column {facts['column']}", facts["near"], str(given)))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _facts(path: Path, failure: Failure) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": 0, "kind": "missing", "line": 0, "column": 0, "near": ""}
    if not path.is_file():
        return facts
    facts["size"] = size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        said = failure.find("JSONDecodeError")
        place = _PLACE.search(said.message) if said else None
        if place and int(place[3]) < 10**9:
            start = max(0, int(place[3]) - 60)  # characters are bytes wherever the file is plain ASCII
            file.seek(start)
            before = file.read(min(60, int(place[3]) - start) + 1).decode("utf-8", "replace")
            facts |= {"line": int(place[1]), "column": int(place[2]), "near": " ".join(before.split())[-60:]}
    facts["kind"] = _kind(head, size, said.message if said else "", int(place[3]) if place else -1)
    return facts


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
