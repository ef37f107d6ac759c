"""For which accelerators the loaded torch is built."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene


class TorchBuildProbe(Probe):
    """For which accelerators the loaded torch is built; no device is asked.

    Facts: ``version``, ``build`` (``CUDA 12.8``, ``ROCm 6.4``; empty where it is built for the CPU only).
    """

    name: ClassVar[str] = "torch-build"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None:
            return Evidence(missing="torch is not loaded")
        cuda, hip = torch.version.cuda, getattr(torch.version, "hip", None)
        build = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else ""
        facts = {"version": str(torch.__version__), "build": build}
        seen = Observation("torch", f"{torch.__version__}, built for {build or 'the CPU only'}", "torch.version")
        return Evidence(MappingProxyType(facts), (seen,))
