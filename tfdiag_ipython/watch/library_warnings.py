"""Python warnings and the libraries' own WARNING log records while a cell runs; they are shown as they always are."""

from __future__ import annotations

import logging
import warnings
from typing import TextIO

from tfdiag_ipython.failure import Failure, qualified
from tfdiag_ipython.probe import Scene

LOGGERS = ("transformers", "torch", "huggingface_hub", "accelerate", "datasets", "tokenizers", "peft")
"""Loggers whose records, and those of their children, are taken."""
MOST = 50
"""Different warnings kept of one cell."""


class LibraryWarnings:
    """Takes note of warnings that are shown anyway; a warning that Python's filters suppress stays unseen here too.

    What transformers logs once per process, and logged before the cell, is shown again: people observe a cell after it has run.
    """

    watched = "the libraries' own warnings"

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], None] = {}
        self._show = warnings.showwarning
        self._handler = _Listener(self)
        self._running = False

    def start(self) -> None:
        self._show = warnings.showwarning
        self._running = True
        _show_again()
        warnings.showwarning = self._showwarning
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self._handler)

    def stop(self, scene: Scene) -> list[Failure]:
        self._running = False
        if warnings.showwarning == self._showwarning:  # else the cell put its own in place, which stays
            warnings.showwarning = self._show
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self._handler)
        found = [Failure.from_warning(message, category=category) for message, category in self._seen]
        self._seen.clear()
        return found

    def answers(self, finding: Failure) -> bool:
        return False

    def note(self, message: str, category: str) -> None:
        """Remember a warning once, by its text alone."""
        if self._running and len(self._seen) < MOST:
            self._seen.setdefault((message, category))

    def _showwarning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        self._show(message, category, filename, lineno, file, line)
        try:
            self.note(str(message), qualified(category))
        except Exception:  # a hostile __str__ already had its say when the warning was shown
            return


def _show_again() -> None:
    """Forget which warnings transformers has logged with ``warning_once``; IPython makes Python's own shown in every cell."""
    forget = getattr(getattr(logging.Logger, "warning_once", None), "cache_clear", None)  # set by transformers
    if callable(forget):
        forget()


class _Listener(logging.Handler):
    def __init__(self, watch: LibraryWarnings) -> None:
        super().__init__(logging.WARNING)
        self._watch = watch

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._watch.note(record.getMessage(), record.name)
        except Exception:  # a record whose arguments do not fit is the library's own fault
            return
