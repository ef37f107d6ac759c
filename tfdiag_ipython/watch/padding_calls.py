"""Calls of models that a watch takes note of while a cell runs: of each line a sample, spread over all that it makes."""

from __future__ import annotations

import ast
import contextlib
import linecache
import re
import sys
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from tfdiag_ipython.failure import CELL_FILE
from tfdiag_ipython.fixes.source import one_line

PART = 4
"""Calls kept of a line's beginning, of its end, and of what is between."""
LONGEST = 2000
"""Characters of a statement that are kept."""
LINES = 64
"""Lines, and models made anew in one line, of which calls are kept."""


@dataclass
class Call:
    """A call whose padding may be unmasked. The model is not kept alive; the arguments are, until the cell has ended.

    ``tokens`` and ``pad`` are what a call of ``generate`` was told: how many tokens to make at most, and which one is padding.
    """

    model: weakref.ref[Any]
    method: str
    given: Mapping[str, Any]
    source: str
    tokens: int
    pad: int | None = None
    seconds: float = field(default=float("inf"))


class Sample:
    """The first calls of a line, the last ones, and some between, of which each is as likely kept as any other.

    Ids in device memory cannot be looked at while the cell runs, so padding that begins late must be among what is kept of a long loop.
    Chance, not every second or tenth call: loops that call one line for questions and answers in turn have a rhythm, too.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._first: list[Call] = []
        self._between: list[Call] = []
        self._last: deque[Call] = deque()
        self._passed = 0
        self._chance = Random(0)  # its own: the person's random numbers stay as they are

    @property
    def calls(self) -> list[Call]:
        return [*self._first, *self._between, *self._last]

    def add(self, call: Call) -> None:
        if len(self._first) < PART:
            self._first.append(call)
            return
        self._last.append(call)
        if len(self._last) <= PART:
            return
        passed = self._last.popleft()
        self._passed += 1
        if len(self._between) < PART:
            self._between.append(passed)
        elif (place := int(self._chance.random() * self._passed)) < PART:
            del self._between[place]
            self._between.append(passed)


class Samples:
    """The samples of a cell's lines."""

    def __init__(self) -> None:
        self._by_line: dict[tuple[int, str, str, int], Sample] = {}

    def of(self, model: Any, method: str, *, anywhere: bool) -> Sample | None:
        """The sample of the person's line that is running; ``None`` for a call from elsewhere, unless ``anywhere`` counts."""
        file, line = _place()
        if not line and not anywhere:
            return None
        key = (id(model), method, file, line)
        sample = self._by_line.get(key)
        if sample is None and len(self._by_line) < LINES:
            sample = self._by_line[key] = Sample(_statement(file, line) if line else "")
        return sample

    def end(self) -> list[Call]:
        """All calls kept, line by line, oldest first; from now on none is kept."""
        kept, self._by_line = self._by_line, {}
        return [call for sample in kept.values() for call in sample.calls]


def _statement(file: str, line: int) -> str:
    """The statement that goes over this line, in one line; of several in a line, or of a loop's head, what stands in the line."""
    text, source = linecache.getline(file, line).strip(), "".join(linecache.getlines(file))
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt))
        simple = (node for node in nodes if not {"body", "cases"} & {*node._fields})
        here = [node for node in simple if node.lineno <= line <= (node.end_lineno or node.lineno)]
        if len(here) == 1 and here[0].end_lineno != here[0].lineno:
            text = ast.get_source_segment(source, here[0]) or text
    return one_line(text)[:LONGEST]


@lru_cache(maxsize=1024)
def _is_cell(file: str) -> bool:
    return bool(re.match(CELL_FILE, file))


def _place() -> tuple[str, int]:
    """File and number of the line of the person's cell that is running; 0 when the call comes from elsewhere."""
    frame = sys._getframe(3)
    while frame is not None:
        if _is_cell(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "", 0
