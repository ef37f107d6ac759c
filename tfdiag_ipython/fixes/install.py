"""Install a package into this kernel's own interpreter; names come from a fixed table, never from an error message."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Cancelled, Host, Plan, Preview, Progress
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
        process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        last: list[str] = []
        try:
            for line in process.stdout:
                last = [*last[-7:], re.sub(r"\s+", " ", line).strip()]
                progress.report(last[-1])
        except (Cancelled, KeyboardInterrupt):
            process.terminate()
            process.wait()
            raise
        if process.wait():
            raise PlanError(f"pip ended with status {process.returncode}: {' / '.join(last[-2:])}")
        importlib.invalidate_caches()
        return f"Installed {', '.join(self.specifications)}."

    def verify(self, progress: Progress) -> Verification:
        if self.stale:
            return Verification(
                Status.PENDING, f"Restart the kernel: the old {', '.join(self.stale)} is still loaded in this process."
            )
        if self.asked_by in sys.modules:
            return Verification(
                Status.PENDING,
                f"Restart the kernel: {self.asked_by} looked for {', '.join(self.modules)} when it was loaded, and "
                "not since.",
            )
        return super().verify(progress)


def _specifier(text: str) -> str:
    """The text where it is a version specifier and nothing else: it reaches pip's command line."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier:
        raise PlanError(f"{text!r} says nothing that pip knows about versions.") from None
