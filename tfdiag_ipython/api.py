"""The three entrances for programs: a live exception, stored text, a saved notebook."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from tfdiag_ipython.diagnosis import Diagnosis
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.errors import InputError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Cell, Scene
from tfdiag_ipython.registry import Registry, load_registry


@functools.cache
def registry() -> Registry:
    """The rules of this process, loaded when they are first needed."""
    return load_registry()


def diagnose(
    exception: BaseException, *, source: str | None = None, namespace: Mapping[str, Any] | None = None
) -> list[Diagnosis]:
    """See :func:`tfdiag_ipython.diagnose`."""
    if not isinstance(exception, BaseException):
        raise InputError(f"diagnose takes an exception, not {type(exception).__name__}: for text, call diagnose_text.")
    failure = Failure.from_exception(exception, source=source or "")
    cells = (Cell(0, source),) if source else ()
    scene = Scene(namespace or {}, exception=exception, cells=cells)
    try:
        return Engine(registry()).diagnose(failure, scene)
    finally:
        scene.close()


def diagnose_text(text: str, *, versions: Mapping[str, str] | None = None) -> list[Diagnosis]:
    """See :func:`tfdiag_ipython.diagnose_text`."""
    if not isinstance(text, str):
        raise InputError(f"diagnose_text takes text, not {type(text).__name__}: for an exception, call diagnose.")
    return Engine(registry()).diagnose(Failure.from_text(text, versions=versions))


def diagnose_notebook(path: str | PathLike[str]) -> list[Diagnosis]:
    """See :func:`tfdiag_ipython.diagnose_notebook`."""
    engine = Engine(registry())
    return [found for failure in read_notebook(path) for found in engine.diagnose(failure)[:1]]


def read_notebook(path: str | PathLike[str]) -> list[Failure]:
    """The failures that a saved notebook's error outputs tell of, by cell."""
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    return notebook_failures(data.decode("utf-8", errors="replace"), str(file))


def is_notebook(text: str) -> bool:
    """Whether this text is a saved notebook, whatever its file is called."""
    start = text.lstrip("\ufeff \t\r\n")
    return start.startswith("{") and '"nbformat"' in text and '"cells"' in text


def notebook_failures(text: str, name: str) -> list[Failure]:
    """The failures that the error outputs of the notebook with this text tell of; ``name`` is what a complaint calls it."""
    import nbformat

    try:
        notebook = nbformat.reads(text.lstrip("\ufeff"), as_version=4)
        cells = list(notebook.cells)
    except Exception as error:  # nbformat raises its own errors, jsonschema's, KeyError and AttributeError alike
        raise InputError(f"{name} is not a notebook that nbformat can read ({type(error).__name__}).") from error
    failures = []
    for number, cell in enumerate(cells, start=1):
        for output in cell.get("outputs", ()):
            if output.get("output_type") != "error":
                continue
            trace = "\n".join(output.get("traceback") or ())
            last = f"{output.get('ename', '')}: {output.get('evalue', '')}"
            failure = Failure.from_text(trace or last)
            count = cell.get("execution_count")
            label = f"cell {count}" if count else f"cell number {number}"
            failures.append(replace(failure, source=str(cell.get("source", "")), cell=label))
    return failures
