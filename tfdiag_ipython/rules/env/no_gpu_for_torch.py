from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.devices import choose_device
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.cuda_setup import CudaSetupProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TORCH, own, raised_by_hand

CPU = ("torch", "without triton")
"""Triton comes with a torch for CUDA, which says something else, or nothing."""
RUNTIMES = {
    "colab": ("This Colab runtime has no GPU", "Runtime > Change runtime type gives the notebook one; it restarts."),
    "kaggle": ("This Kaggle session has no GPU", "The notebook's settings have its accelerator; the session restarts."),
}
FACTS = {"version": "2.9.0+cu128", "build": "CUDA 12.8", "driver": True, "cards": (), "visible": None, "hidden": False}
FACTS |= {"mps": False, "place": "", "written": True, "imported": True}


class NoGpuForTorch(Rule):
    """The GPU was asked for, and torch can use none.

    *What it means*
    torch uses an NVIDIA GPU where three things meet: a build with CUDA, a driver that is new enough for that CUDA, and a card that this
    process may see.

    *Why it happens*
    The wheel was built for the CPU only, the runtime has no GPU, the driver is missing or old, or `CUDA_VISIBLE_DEVICES` hides the cards.

    *How tfdiag confirms it*
    It reads the build of the loaded torch, the driver's files and the variable; no device is asked.

    *Fixes and their safety*
    `choose-device` (unsafe: without a GPU the program computes on the CPU, slower) writes `"cuda" if torch.cuda.is_available() else "cpu"`
    in the cells that say `"cuda"` or `.cuda()`.

    *Example*
    `torch.ones(2).cuda()` with a torch for the CPU.

    *References*
    torch: `torch/cuda/__init__.py`; NVIDIA: CUDA Compatibility.
    """

    code = "ENV001"
    name = "no-gpu-for-torch"
    kinds = ("exception", "warning")
    raised = ("builtins.AssertionError", "builtins.RuntimeError", "builtins.UserWarning")
    message = re.compile(
        r"(?P<cpu>Torch not compiled with CUDA enabled|PyTorch was compiled without CUDA support)"
        r"|(?P<driver>Found no NVIDIA driver on your system)"
        r"|(?P<none>No CUDA GPUs are available)"
        r"|(?P<old>The NVIDIA driver on your system is too old)(?: \(found version (?P<number>\d{4,6})\))?"
    )
    needs = (CudaSetupProbe,)
    fixes = (Offer("choose-device", Applicability.UNSAFE),)
    links = (Link("Install PyTorch", "https://pytorch.org/get-started/locally/"),)
    CASES = (
        Match(
            text="AssertionError: Torch not compiled with CUDA enabled",
            certainty=Certainty.LIKELY,
            title="This torch is built for the CPU only",
        ),
        Match(
            text="RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver",
            title="torch finds no NVIDIA driver",
        ),
        Match(text="RuntimeError: No CUDA GPUs are available", title="torch finds a driver, and no GPU"),
        Match(
            text="RuntimeError: No CUDA GPUs are available",
            evidence={"cuda-setup": FACTS | {"visible": "3", "hidden": True, "cards": ("NVIDIA A10",)}},
            title="CUDA_VISIBLE_DEVICES is '3' and hides the NVIDIA A10",
            certainty=Certainty.CONFIRMED,
        ),
        Match(
            text="RuntimeError: Found no NVIDIA driver on your system.",
            evidence={"cuda-setup": FACTS | {"driver": False, "place": "colab"}},
            title="This Colab runtime has no GPU",
            certainty=Certainty.CONFIRMED,
            fixes=("choose-device",),
        ),
        Match(
            text="RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
            evidence={"cuda-setup": FACTS},
            title=r"driver knows CUDA 11\.4 at most, and this torch 2\.9\.0\+cu128 is built for CUDA 12\.8",
            certainty=Certainty.CONFIRMED,
        ),
        Match(
            text="UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 9000). Please update",
            title=r"driver knows CUDA 9\.0 at most, and this torch is built for a newer one",
        ),
        NoMatch(text="AssertionError: OpenCV not compiled with CUDA support enabled"),
        NoMatch(text="RuntimeError: No GPUs are available in this cluster"),
        NoMatch(text="RuntimeError: The graphics driver on your system is too old"),
        Reproduce(
            ("import torch\nx = torch.ones(2)", "x = x.cuda()  # the fast way\ny = x.to('cuda:0')"),
            title=r"This torch \S+ is built for the CPU only",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("choose-device"),),
            needs=CPU,
        ),
        Reproduce(
            ("import torch", "device = 'cuda'", "x = torch.ones(2, device=device)"),
            title="built for the CPU only",
            fixes=(Try("choose-device"),),
            needs=CPU,
        ),
        Reproduce(
            ("from torch import nn\nlayer = nn.Linear(2, 2)", "layer.to('cuda')"),
            title="built for the CPU only",
            fixes=(Try("choose-device"),),
            needs=CPU,
        ),
        Reproduce(
            (
                "import torch\nfrom dataclasses import dataclass\n@dataclass\nclass Config:\n    device: str = 'cuda'\nmore = {'device': 'cuda'}",
                "torch.ones(2).to(Config().device).to(more['device'])",
            ),
            title="built for the CPU only",
            fixes=(Try("choose-device"),),
            needs=CPU,
        ),
        Reproduce(  # a class of one's own with a `cuda` and no `to`
            (
                "import torch\nclass Box:\n    def cuda(self):\n        return torch.ones(2).cuda()\nbox = Box()",
                "box.cuda()",
            ),
            title="built for the CPU only",
            fixes=(Try("choose-device"),),
            needs=CPU,
        ),
        Reproduce(  # somebody's own choice
            ("import torch\nfast = True\ndevice = 'cuda' if fast else 'cpu'", "torch.ones(2).to(device)"),
            title="built for the CPU only",
            bare=True,
            needs=CPU,
        ),
        Reproduce(  # no cell says it in a way that can be edited
            ("import torch\nname = 'cu' + 'da'", "torch.ones(2).to(name)"),
            title="built for the CPU only",
            bare=True,
            needs=CPU,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TORCH) or raised_by_hand(hit.raised):
            return None
        seen = evidence[CudaSetupProbe.name]
        title, why = _answer(hit, seen)
        told = "Where there is a GPU, it means the same; here it computes on the CPU."
        fix = self.offer(
            "choose-device",
            "Use the CPU where there is no GPU",
            told,
            display=bool(seen) and not seen["written"],
            imports=bool(seen) and not seen["imported"],
        )
        return self.found(
            title,
            Certainty.CONFIRMED if seen or hit["cpu"] or hit["old"] else Certainty.LIKELY,
            what="torch uses an NVIDIA GPU where its build has CUDA, the driver is new enough, and this process may see the card.",
            why=why,
            evidence=seen.seen,
            fixes=(fix,) if hit.raised.name != "UserWarning" else (),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        imports = bool(fix.parameters["imports"])
        without = {
            name
            for name, value in list(scene.namespace.items())
            if inspect.getattr_static(type(value), "to", None) is None
        }
        return edit_cells(scene, lambda source: choose_device(source, imports=imports, without=without), every=True)


def _answer(hit: Hit, seen: Evidence) -> tuple[str, str]:
    """The title, and what to do."""
    version = f" {seen['version']}" if seen else ""
    runtime = RUNTIMES.get(str(seen.get("place", "")))
    if hit["cpu"]:
        title = f"This torch{version} is built for the CPU only"
        if seen.get("mps"):
            return f'{title}: on this Mac the GPU is device "mps"', 'Write "mps" for "cuda".'
        if seen.get("cards"):
            return f"{title}, and this machine has {_named(seen)}: install a torch with CUDA", INSTALL
        without = " It would find no NVIDIA driver here anyway." if seen and not seen["driver"] else ""
        return title, f"{INSTALL}{without}"
    if hit["old"]:
        number = int(hit["number"] or 0)
        most = f"The NVIDIA driver knows CUDA {number // 1000}.{number % 1000 // 10} at most"
        built = f"is built for {seen['build']}" if seen.get("build") else "is built for a newer one"
        title = f"{most if number else 'The NVIDIA driver is old'}, and this torch{version} {built}"
        return title, "Update the driver, or install a torch built for a CUDA that this driver knows."
    if seen.get("hidden"):
        cards = _named(seen) if seen["cards"] else "every GPU"
        told = "Set it right before torch is first used, and restart the kernel."
        return f"CUDA_VISIBLE_DEVICES is {seen['visible']!r} and hides {cards}", told
    if runtime:
        return runtime
    if hit["driver"]:
        return f"torch{version} finds no NVIDIA driver", "Choose a machine with a GPU, or install its driver; restart."
    return (
        f"torch{version} finds a driver, and no GPU that this process may use",
        "Look at `nvidia-smi` and CUDA_VISIBLE_DEVICES; a container must be started with its GPUs. Then restart the kernel.",
    )


INSTALL = 'The page "Install PyTorch" has the command for a build with CUDA; restart the kernel after it.'


def _named(seen: Evidence) -> str:
    cards = seen["cards"]
    return f"the {cards[0]}" if len(cards) == 1 else f"{len(cards)} GPUs ({cards[0]} …)"
