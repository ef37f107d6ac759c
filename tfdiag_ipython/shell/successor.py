"""What a kernel that tfdiag restarts leaves to the next one: the cells to run again, in a file that the next one takes away.

The file stands beside the kernel's connection file, which keeps its name when the kernel is started again, and can be read by its owner
alone. It is written by the click that restarts the kernel, and when a kernel is restarted by other means after a failure for which
tfdiag offered a restart; never otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.probe import Cell

if TYPE_CHECKING:
    from tfdiag_ipython.shell.session import ShellSession

SUFFIX = ".tfdiag-again"


def leave(beside: Path, cells: Sequence[Cell]) -> None:
    """Leave these cells for the kernel that comes next; ``beside`` is any file that has the connection file's name and place."""
    path = beside.with_suffix(SUFFIX)
    path.unlink(missing_ok=True)
    noted = {"process": os.getpid(), "cells": [[cell.number, cell.source] for cell in cells]}
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        json.dump(noted, opened)


def take(beside: Path) -> list[Cell]:
    """The cells that the kernel before left, told once; none where it left nothing that can be read."""
    path = beside.with_suffix(SUFFIX)
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        if noted["process"] == os.getpid():  # tfdiag was loaded again before the restart
            return []
        path.unlink()
        return [Cell(int(number), str(source)) for number, source in noted["cells"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def is_restarted(kernel: Any) -> bool:
    """Whether this kernel, which ends, was told to by somebody who starts it again: what ipykernel (6 and 7) answered to that."""
    message = getattr(kernel, "_shutdown_message", None)
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, dict) and content.get("restart") is True


def after_restart(session: ShellSession) -> Sequence[Cell]:
    """What is to be run again after the restart that was offered for this failure; nothing where none was."""
    from tfdiag_ipython.fixes.restart import RestartKernel

    for diagnosis in session.diagnoses:
        for fix in diagnosis.fixes:
            if fix.id.startswith("restart"):
                plan = session.plan(diagnosis, fix)
                return plan.again if isinstance(plan, RestartKernel) else ()
    return ()
