"""The accelerators of this machine, whether this torch can use them, who uses them, and whether this process still may.

Sources: torch's `torch/cuda/__init__.py` (`get_arch_list`; a binary runs on cards of the same major capability from its minor on, PTX on
all later ones) and the CUDA C++ Programming Guide, "Compute capability".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes import _nvidia_smi
from tfdiag_ipython.sizes import memory_size

DEAD = "dead: a kernel failed in it, and no CUDA call of this process works any more; restart the kernel"


class GpuProbe(Probe):
    """Accelerators: devices, driver, torch's build and whether its kernels run on these cards, memory, processes, alive or dead.

    Facts: ``devices`` (name, capability, total, used), ``build`` (torch's CUDA or ROCm version, empty for a CPU build), ``archs``,
    ``unmatched`` (cards for which this torch has no kernels), ``context`` (``none``, ``alive`` or ``dead``), ``mps``. The driver is
    asked through ``nvidia-smi``, which cannot hang this process; a dead context is not touched.
    """

    name: ClassVar[str] = "gpu"
    deep: ClassVar[bool] = True

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        try:
            cards, others = _nvidia_smi.devices(), _nvidia_smi.processes()
        except TimeoutError as error:
            return Evidence(missing=f"the driver: {error}")
        build = _build(torch)
        archs = tuple(torch.cuda.get_arch_list()) if torch is not None and build else ()
        mps = torch is not None and bool(torch.backends.mps.is_available())
        context = "none" if torch is None else _context(torch, scene)
        unmatched = [card for card in cards if archs and card.capability and not runs_on(archs, card.capability)]
        facts = {
            "devices": tuple((card.name, card.capability, card.total, card.used) for card in cards),
            "build": build,
            "archs": archs,
            "unmatched": tuple(card.name for card in unmatched),
            "context": context,
            "mps": mps,
        }
        seen = [Observation("in short", _in_short(torch, cards, build, unmatched, mps))]
        for card in cards:
            capability = f", compute capability {card.capability[0]}.{card.capability[1]}" if card.capability else ""
            share = card.used / card.total if card.total else None
            used = f"{memory_size(card.used)} of {memory_size(card.total)} in use"
            seen.append(
                Observation(f"GPU {card.index}: {card.name}{capability}", used, f"driver {card.driver}", share=share)
            )
            for one in others:
                if one.device == card.index:
                    size = memory_size(one.size) if one.size else "the driver does not say how much"
                    seen.append(
                        Observation(f"GPU {card.index}: process {one.number} {one.name}".rstrip(), size, "nvidia-smi")
                    )
        if torch is not None:
            seen.append(
                Observation("torch", f"{torch.__version__}, {build or 'built for the CPU only'}", "torch.version")
            )
        if archs:
            seen.append(Observation("kernels for", ", ".join(archs), "torch.cuda.get_arch_list()"))
        if context != "none":
            seen.append(Observation("CUDA in this process", DEAD if context == "dead" else "alive"))
        return Evidence(MappingProxyType(facts), tuple(seen))


def runs_on(archs: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether a build with these architectures (``sm_90``, ``sm_90a``, ``compute_90``) has kernels for a card of this capability."""
    major, minor = capability
    for arch in archs:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if found is None:
            return True  # another maker's, or a form not known here: no verdict
        kind, built, suffix = found[1], (int(found[2]), int(found[3])), found[4]
        if suffix == "a":
            fits = built == capability
        elif kind == "compute" and not suffix:
            fits = built <= capability
        else:
            fits = built[0] == major and built[1] <= minor
        if fits:
            return True
    return False


def _build(torch: Any) -> str:
    if torch is None:
        return ""
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if getattr(torch.version, "hip", None) else ""


def _context(torch: Any, scene: Scene) -> str:
    """Asking whether the current stream is idle waits for nothing, and fails where the context is dead."""
    if scene.cuda_dead:
        return "dead"
    if not torch.cuda.is_initialized():
        return "none"
    try:
        torch.cuda.current_stream().query()
    except RuntimeError:
        return "dead"
    return "alive"


def _in_short(torch: Any, cards: Sequence[_nvidia_smi.Device], build: str, unmatched: Sequence[Any], mps: bool) -> str:
    """What holds here, in one sentence."""
    if mps:
        return "This machine has an Apple GPU, which this torch can use as device `mps`."
    if not cards:
        why = (
            "nvidia-smi, which comes with NVIDIA's driver, is not installed"
            if not _nvidia_smi.installed()
            else "nvidia-smi lists none"
        )
        if build.startswith("ROCm") and torch.cuda.is_available():
            return f"This torch is built for {build} and can use {torch.cuda.device_count()} AMD GPU(s)."
        told = f"This machine shows no GPU ({why}), so that everything runs on the CPU"
        return (
            f"{told}; this torch could use none anyway: it is built for the CPU only."
            if torch and not build
            else f"{told}."
        )
    if torch is None:
        return f"There are {len(cards)} GPU(s); torch is not loaded, so that nothing is said about it: import it first."
    if not build:
        return f"There are {len(cards)} GPU(s), but this torch ({torch.__version__}) is built for the CPU only: install one with CUDA."
    if unmatched:
        one = unmatched[0]
        return (
            f"This torch ({build}) has no kernels for the {one.name} (sm_{one.capability[0]}{one.capability[1]}): install one that "
            "has (its list is below)."
        )
    return f"This torch ({build}) has kernels for all of the {len(cards)} GPU(s) here."
