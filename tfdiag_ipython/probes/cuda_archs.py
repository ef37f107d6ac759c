"""For which cards the loaded torch has kernels, and which card this process uses. Nothing is started and no context is made.

Source: ``torch/cuda/__init__.py`` of torch 2.13 (``get_arch_list``, ``get_device_properties``).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.gpu import runs_on


class CudaArchsProbe(Probe):
    """The architectures of torch's own kernels, and the current card where CUDA is already in use.

    Facts: ``version``, ``archs``, ``card`` (name), ``capability`` (``sm_86``), ``fits`` (torch's own kernels run on it).
    """

    name: ClassVar[str] = "cuda-archs"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        if torch is None or not torch.version.cuda:
            return Evidence(missing="no torch with CUDA is loaded")
        if scene.cuda_dead or not torch.cuda.is_initialized():
            return Evidence(missing="CUDA is not in use in this process, or no longer works in it")
        archs = tuple(str(torch._C._cuda_getArchFlags() or "").split())
        card = torch.cuda.get_device_properties(torch.cuda.current_device())
        capability = (int(card.major), int(card.minor))
        name = f"sm_{capability[0]}{capability[1]}"
        facts = {
            "version": str(torch.__version__),
            "archs": archs,
            "card": str(card.name),
            "capability": name,
            "fits": runs_on(archs, capability),
        }
        seen = (
            Observation("the card", f"{card.name}, {name}", "its properties"),
            Observation(f"torch {torch.__version__} has kernels for", ", ".join(archs), "torch.cuda.get_arch_list()"),
        )
        return Evidence(MappingProxyType(facts), seen)
