"""Install a package into this kernel's own interpreter; names come from a fixed table, never from an error message."""

from __future__ import annotations

import importlib
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Cancelled, Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.restart import NOW_RESTART
from tfdiag_ipython.probe import Cell

REQUIREMENTS = {
    "accelerate": "accelerate",
    "bitsandbytes": "bitsandbytes",
    "datasets": "datasets",
    "einops": "einops",
    "evaluate": "evaluate",
    "google.protobuf": "protobuf",
    "h5py": "h5py",
    "huggingface_hub": "huggingface_hub",
    "librosa": "librosa",
    "peft": "peft",
    "PIL": "pillow",
    "protobuf": "protobuf",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "sentence_transformers": "sentence-transformers",
    "sentencepiece": "sentencepiece",
    "sklearn": "scikit-learn",
    "soundfile": "soundfile",
    "tf_keras": "tf-keras",
    "tiktoken": "tiktoken",
    "timm": "timm",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torchaudio": "torchaudio",
    "torchvision": "torchvision",
    "transformers": "transformers",
}
"""Importable module → the distribution that provides it. tfdiag installs nothing that is not here."""


POLL = 0.2
GRACE = 20.0
"""Seconds that pip gets to put back what it had uninstalled."""
SILENT = "\n"


class InstallPackages(Plan):
    """``pip install`` in this interpreter, with pip's output streamed; asks for a restart where an old module is
    loaded.

    ``asked_by`` is the library that looks for the package once, while it is being loaded: it needs a restart, too.
    ``releases`` says which releases of a module will do (``">=1.1.0"``); :class:`PlanError` where that is no version
    specifier.
    """

    undoable = False
    threaded = True

    def __init__(
        self,
        host: Host,
        modules: tuple[str, ...],
        *,
        reruns: tuple[Cell, ...] = (),
        failure: Failure | None = None,
        asked_by: str = "",
        releases: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(host, reruns=reruns, failure=failure)
        unknown = [module for module in modules if module not in REQUIREMENTS]
        if unknown:
            raise PlanError(f"tfdiag installs only packages from its own table, and {', '.join(unknown)} is not in it.")
        self.modules = modules
        self.specifications = [REQUIREMENTS[name] + _specifier(releases.get(name, "")) for name in modules]
        self.asked_by = asked_by
        self.stale = tuple(module for module in modules if module in sys.modules)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "pip", "install", "--no-input", *self.specifications]

    def preview(self) -> Preview:
        names = " ".join(shlex.quote(specification) for specification in self.specifications)
        note = "It installs into this kernel's own environment, from the package index that pip is set up for."
        return Preview("command", f"{sys.executable} -m pip install {names}", f"{note} tfdiag cannot undo it.")

    def execute(self, progress: Progress) -> str:
        own_group = {"start_new_session": True} if os.name == "posix" else {}
        process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            **own_group,  # type: ignore[call-overload]
        )
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(process.stdout, lines), name="tfdiag-pip", daemon=True).start()
        last: list[str] = []
        try:
            while line := _next(lines):  # pip is silent while it downloads: Cancel must not wait for its next line
                last = [*last[-7:], re.sub(r"\s+", " ", line).strip()] if line != SILENT else last
                progress.report(last[-1] if last else "Starting pip …")
        except (Cancelled, KeyboardInterrupt):
            _stop(process)
            raise
        if process.wait():
            raise PlanError(f"pip ended with status {process.returncode}: {' / '.join(last[-2:])}")
        importlib.invalidate_caches()
        return f"Installed {', '.join(self.specifications)}."

    def verify(self, progress: Progress) -> Verification:
        if self.stale:
            return Verification(
                Status.PENDING, f"{NOW_RESTART}: the old {', '.join(self.stale)} is still loaded in this process."
            )
        if self.asked_by in sys.modules:
            return Verification(
                Status.PENDING,
                f"{NOW_RESTART}: {self.asked_by} looked for {', '.join(self.modules)} when it was loaded, and "
                "not since.",
            )
        return super().verify(progress)


def _read(output: Iterable[str], lines: queue.SimpleQueue[str]) -> None:
    for line in output:
        lines.put(line)
    lines.put("")


def _next(lines: queue.SimpleQueue[str]) -> str:
    """The next line, ``SILENT`` where there is none yet, nothing when all was read."""
    try:
        return lines.get(timeout=POLL)
    except queue.Empty:
        return SILENT


def _stop(process: subprocess.Popen[str]) -> None:
    """Interrupt pip and what it started, as Ctrl+C would: it then puts back what it had uninstalled."""
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _specifier(text: str) -> str:
    """The text where it is a version specifier and nothing else: it reaches pip's command line."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        raise PlanError(f"{text!r} says nothing that pip knows about versions.") from None
