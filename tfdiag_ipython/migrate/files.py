"""Programs in files: a notebook, or a Python file, read for migration and written back with only the changed lines changed."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfdiag_ipython.errors import InputError
from tfdiag_ipython.probe import Cell

SIZE_LIMIT = 200_000_000
"""Bytes of a file that are read: notebooks with many pictures are large."""
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class File:
    """A program in a file: its cells, and its text with other sources in their place."""

    def __init__(self, path: Path, cells: tuple[Cell, ...]) -> None:
        self.path = path
        self.cells = cells

    def rewritten(self, sources: Mapping[int, str]) -> bytes:
        """The file's bytes with these cells' sources (by index); everything else stays byte for byte."""
        raise NotImplementedError

    def write(self, sources: Mapping[int, str]) -> None:
        """Put the program with these sources into the file, whole or not at all."""
        path = self.path.resolve()
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}", delete=False) as new:
                new.write(self.rewritten(sources))
            shutil.copymode(path, new.name)
            os.replace(new.name, path)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}.") from error


def read_program(name: str) -> File:
    """The program in ``name``; raises ``InputError`` with one sentence where there is none."""
    path = Path(name)
    if path.suffix not in {".ipynb", ".py"}:
        raise InputError(f"{name} is neither a notebook (.ipynb) nor a Python file (.py).")
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise InputError(
                f"{name} is larger than {SIZE_LIMIT // 1_000_000} MB: give the program without its outputs."
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}.") from error
    return _Notebook(path, data) if path.suffix == ".ipynb" else _Script(path, data)


class _Script(File):
    def __init__(self, path: Path, data: bytes) -> None:
        try:
            self._encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            source = data.decode(self._encoding)
        except (SyntaxError, UnicodeDecodeError, LookupError) as error:
            raise InputError(f"{path} is not Python text in the encoding that it declares.") from error
        if not source.strip():
            raise InputError(f"{path} is empty.")
        super().__init__(path, (Cell(0, source),))

    def rewritten(self, sources: Mapping[int, str]) -> bytes:
        return sources.get(0, self.cells[0].source).encode(self._encoding)


class _Notebook(File):
    """A notebook is JSON, and is changed as text: nbformat would write all of it anew."""

    def __init__(self, path: Path, data: bytes) -> None:
        import nbformat

        try:
            self._text = data.decode("utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8")
            notebook = nbformat.reads(self._text, as_version=nbformat.NO_CONVERT)
            cells = list(notebook["cells"]) if notebook["nbformat"] >= 4 else []
            language = notebook.metadata.get("kernelspec", {}).get("language") or notebook.metadata.get(
                "language_info", {}
            ).get("name", "python")
            kinds = [(str(cell["cell_type"]), cell["source"], cell.get("execution_count")) for cell in cells]
            spans = list(_source_spans(self._text))
        except Exception as error:  # nbformat raises its own errors, jsonschema's, KeyError and AttributeError alike
            raise InputError(f"{path} is not a notebook that nbformat can read ({type(error).__name__}).") from error
        if notebook["nbformat"] < 4:
            raise InputError(f"{path} is a notebook of format {notebook['nbformat']}: save it anew with Jupyter first.")
        if str(language).lower() not in {"python", "ipython", "python3"}:
            raise InputError(f"{path} is a notebook in {language}, not in Python.")
        if len(spans) != len(kinds):
            raise InputError(f"{path} is not a notebook that can be changed as text: it repeats a key.")
        self._bom = data.startswith(b"\xef\xbb\xbf")
        code = [
            (number, source, span)
            for number, ((kind, source, _), span) in enumerate(zip(kinds, spans, strict=True), 1)
            if kind == "code"
        ]
        self._spans = [span for _, _, span in code]
        super().__init__(path, tuple(Cell(number, str(source)) for number, source, _ in code))

    def rewritten(self, sources: Mapping[int, str]) -> bytes:
        text = self._text
        for index in sorted(sources, reverse=True):
            start, end = self._spans[index]
            text = text[:start] + _encoded(sources[index], text[start:end], text.isascii()) + text[end:]
        return (b"\xef\xbb\xbf" if self._bom else b"") + text.encode("utf-8")


def _encoded(source: str, before: str, ascii_only: bool) -> str:
    """A cell's source as JSON in the form that it had: one string, or a list of lines with that list's white space."""
    old = json.loads(before)
    if isinstance(old, str):
        return json.dumps(source, ensure_ascii=ascii_only)
    raw = _elements(before)
    known = dict(zip(old, (before[start:end] for start, end in raw), strict=True))
    lines = source.splitlines(keepends=True)
    items = [known.get(line) or json.dumps(line, ensure_ascii=ascii_only) for line in lines]
    first, last = raw[0][0], raw[-1][1]
    between = before[raw[0][1] : raw[1][0]] if len(raw) > 1 else f",{before[1:first]}"
    return before[:first] + between.join(items) + before[last:]


def _elements(text: str) -> list[tuple[int, int]]:
    """The spans of a JSON list's elements."""
    return [(start, end) for start, end, _ in _items(text, 1, "]")]


def _source_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the value of each cell's ``source`` stands in a notebook's text."""
    for key, start, _ in _members(text, _skip(text, 0) + 1):
        if key == "cells":
            for cell, _, _ in _items(text, start + 1, "]"):
                yield from ((begin, end) for name, begin, end in _members(text, cell + 1) if name == "source")


def _members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """The keys of the object whose text goes on at ``at``, with the spans of their values."""
    at = _skip(text, at)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, at = _DECODER.raw_decode(text, start)
        yield key, start, at
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _items(text: str, at: int, end: str) -> Iterator[tuple[int, int, Any]]:
    """The elements of the list whose text goes on at ``at``: their spans and values."""
    at = _skip(text, at)
    while text[at] != end:
        value, after = _DECODER.raw_decode(text, at)
        yield at, after, value
        at = _skip(text, after)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
