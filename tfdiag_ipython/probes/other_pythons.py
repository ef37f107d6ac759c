"""Whether the module that is missing here is installed for another Python of this machine, and whose ``pip`` is called."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

COMMANDS = ("pip", "pip3", "python", "python3")
_SHEBANG = re.compile(rb"#!\s*/bin/sh\n'''exec' \"?(?P<long>[^\"\n]+?)\"? \"\$0\"|#!\s*(?:\S*/env\s+)?(?P<path>\S+)")
"""The first form is that of scripts whose first line would be too long, or has a blank in it."""
_PYTHON = re.compile(r"(?:python|pypy)[\d.]*(?:\.exe)?$")


class OtherPythonsProbe(Probe):
    """The Pythons behind the commands ``pip`` and ``python`` of this process's ``PATH``.

    Facts: ``module``, ``kernel`` (this interpreter), ``pip`` (the interpreter that the command ``pip`` installs for, empty where it is this
    one or there is none), ``elsewhere`` (an interpreter that has the module). Source: the first line of the ``pip`` script, and the
    names in the ``site-packages`` of its environment; nothing is started. A command that starts another program (a pyenv shim starts bash)
    says nothing.
    """

    name: ClassVar[str] = "other-pythons"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        told = failure.says(r"No module named ['\"]?(\w+)")
        if told is None or not scene.live:
            return Evidence(missing="no missing module is named")
        module, pip, elsewhere = told[1], "", ""
        for command, python in _pythons():
            scene.deadline.check()
            if command.startswith("pip"):
                pip = pip or str(python)
            if not elsewhere and _has(python, module):
                elsewhere = str(python)
        facts = {"module": module, "kernel": sys.executable, "pip": pip, "elsewhere": elsewhere}
        seen = [Observation("This kernel's Python", sys.executable, "sys.executable")]
        if pip:
            seen.append(Observation("The command pip installs for", pip, "PATH"))
        if elsewhere:
            seen.append(Observation(f"`{module}` is installed for", elsewhere, "its site-packages"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def _pythons() -> Iterator[tuple[str, Path]]:
    """The interpreters behind the commands, where they are not this one."""
    for command in COMMANDS:
        found = shutil.which(command)
        python = _interpreter(Path(found)) if found else None
        if python is not None and _PYTHON.match(python.name) and _home(python) != Path(sys.prefix).resolve():
            yield command, python


def _interpreter(command: Path) -> Path | None:
    """What runs a command: the program itself, or the one that the first lines of its script name; ``None`` where that is a script."""
    start = _start(command)
    if not start.startswith(b"#!"):
        return command
    line = _SHEBANG.match(start)
    named = shutil.which(os.fsdecode(line["long"] or line["path"])) if line else None
    return Path(named) if named is not None and not _start(Path(named)).startswith(b"#!") else None


def _start(file: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            return stream.read(500)
    except OSError:
        return b"#!"


def _home(python: Path) -> Path:
    """The folder of an environment: ``bin/python`` may be a link to the Python that it was made from."""
    return python.parent.parent.resolve()


def _has(python: Path, module: str) -> bool:
    home = _home(python)
    patterns = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "local/lib/python3*/dist-packages")
    folders = [folder for pattern in patterns for folder in home.glob(pattern)] + [home / "Lib" / "site-packages"]
    return any((folder / module).is_dir() or (folder / f"{module}.py").is_file() for folder in folders)
