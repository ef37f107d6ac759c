"""tfdiag's own log: its faults are kept in memory, as text, for ``%tfdiag report``, and shown nowhere else."""

from __future__ import annotations

import logging
from collections import deque

ENTRIES = 100
ENTRY_LIMIT = 8_000
logger = logging.getLogger("tfdiag")


class Journal(logging.Handler):
    """The newest entries of the logger ``tfdiag``; records are made text at once, as their tracebacks hold frames."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.entries: deque[str] = deque(maxlen=ENTRIES)
        self._propagated = True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.entries.append(self.format(record)[:ENTRY_LIMIT])
        except Exception as error:  # an exception whose __str__ raises was being logged
            self.entries.append(f"an entry that could not be formatted ({type(error).__name__})")

    def attach(self) -> None:
        """Listen; from now on tfdiag's faults no longer reach the person's own log handlers."""
        self._propagated = logger.propagate
        logger.addHandler(self)
        logger.propagate = False

    def detach(self) -> None:
        """Leave the logger as it was."""
        logger.removeHandler(self)
        logger.propagate = self._propagated


def fault(message: str, *arguments: object) -> None:
    """Log the exception that is being handled; logging itself must not fail on a hostile one."""
    try:
        logger.exception(message, *arguments)
    except BaseException:
        logger.error("%s (its traceback could not be formatted)", message)
