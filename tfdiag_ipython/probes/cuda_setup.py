"""What stands between this program and a GPU: torch's build, the driver, the variable that hides cards. No device and no driver is asked.

Sources: ``torch/cuda/__init__.py`` of torch 2.13; the NVIDIA driver's README, "The /proc interface" (``/proc/driver/nvidia/gpus``); the CUDA
C++ Programming Guide, "CUDA environment variables" (an index that is not there hides it and all behind it).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

DRIVER = Path("/proc/driver/nvidia")
WINDOWS_BELOW = Path("/dev/dxg")
"""WSL's way to the cards of Windows."""
_GPU = r"[\"']cuda(?::0)?[\"']"
_NAME = r"[\w.]{0,60}(?i:dev|gpu|cuda)[\w.]{0,60}"
WRITTEN = re.compile(
    r"\.cuda\(\s*0?\s*\)|\bpipeline\([^\n]*\bdevice\s*=\s*0\b"
    rf"|\b(?:to|(?<!cuda\.)device|set_default_device|Generator)\(\s*{_GPU}|\bdevice(?:_map)?(?:\s*=|[\"']\s*:)\s*{_GPU}\s*[,)}}]"
    rf"|^[^\S\n]*{_NAME}(?:[^\S\n]*:[^\n=]+)?[^\S\n]*=[^\S\n]*{_GPU}[^\S\n]*(?:#[^\n]*)?$|^[^\S\n]*(?:async )?def [^\n]*?\b{_NAME}[^=,\n]{{0,60}}=\s*{_GPU}\s*[,)]",
    re.MULTILINE,
)
"""How a cell's source asks for the GPU, where ``fixes.devices`` can change it: ``"cuda" if fast else "cpu"`` is another's choice."""


class CudaSetupProbe(Probe):
    """Torch's build, the driver's own files and the environment; no process is started.

    Facts: ``version`` and ``build`` (of torch; empty for the CPU only), ``driver`` (one is installed), ``cards`` (their names, as far as the
    driver's files tell), ``visible`` (``CUDA_VISIBLE_DEVICES``; ``None`` where it is not set), ``hidden`` (it hides every card), ``mps``,
    ``place`` (``colab``, ``kaggle`` or empty), ``written`` (a cell asks for the GPU in a way that can be edited), ``mapped`` (the ``map_location`` of a failed ``torch.load``), ``imported`` (the name
    ``torch`` is bound to it).
    """

    name: ClassVar[str] = "cuda-setup"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        cuda, hip = torch.version.cuda, getattr(torch.version, "hip", None)
        cards = _cards()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        driver = DRIVER.is_dir() or WINDOWS_BELOW.exists() or shutil.which("nvidia-smi") is not None
        place = "colab" if scene.module("google.colab") else "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else ""
        facts: dict[str, Any] = {
            "version": str(torch.__version__),
            "build": f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "",
            "driver": driver,
            "cards": cards,
            "visible": visible,
            "hidden": visible is not None and hides_all(visible, len(cards)),
            "mps": bool(getattr(getattr(torch.backends, "mps", None), "is_available", bool)()),
            "place": place,
            "written": any(WRITTEN.search(cell.source) for cell in scene.cells),
            "mapped": _mapped(scene, torch),
            "imported": scene.namespace.get("torch") is torch,
        }
        return Evidence(MappingProxyType(facts), _observations(facts))


def hides_all(visible: str, cards: int) -> bool:
    """Whether no card is left: the list is empty, or begins with an index that is none (of so many cards, where that is known)."""
    first = visible.split(",")[0].strip()
    if re.fullmatch(r"-?\d+", first) is None:
        return not first  # the name of a card
    return int(first) < 0 or 0 < cards <= int(first)


def _mapped(scene: Scene, torch: Any) -> str:
    """Where a failed ``torch.load`` was told to put the tensors; empty where it was not, or by a function or a mapping."""
    frame = next(iter(scene.find_frames("load", file="torch/serialization.py")), None)
    told = frame.locals.get("map_location") if frame is not None else None
    return str(told) if type(told) in (str, torch.device) else ""


def _cards() -> tuple[str, ...]:
    """The names of the cards, as the driver's files have them."""
    names = []
    for file in sorted(DRIVER.glob("gpus/*/information"))[:16]:
        try:
            found = re.search(r"^Model:\s*(.+)$", file.read_text(errors="replace")[:4_000], re.MULTILINE)
        except OSError:
            continue
        names.append(found[1].strip() if found else "NVIDIA GPU")
    return tuple(names)


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    build = facts["build"] or "the CPU only"
    seen = [Observation("torch", f"{facts['version']}, built for {build}", "torch.version")]
    told = ", ".join(facts["cards"]) or ("installed" if facts["driver"] else "none found")
    seen.append(Observation("NVIDIA driver", told, "the driver's files"))
    if facts["visible"] is not None:
        seen.append(Observation("CUDA_VISIBLE_DEVICES", repr(facts["visible"]), "this process's environment"))
    return tuple(seen)
