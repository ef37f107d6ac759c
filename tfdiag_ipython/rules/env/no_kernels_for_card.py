from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.cuda_archs import CudaArchsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule
from tfdiag_ipython.rules._places import TORCH, own, raised_by_hand

WARNING = (
    "NVIDIA GeForce RTX 5080 with CUDA capability sm_120 is not compatible with the current PyTorch installation.\n"
    "The current PyTorch install supports CUDA capabilities sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90."
)
BARE = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
CARD = re.compile(
    r"(?P<card>[A-Z][\w ().-]{2,60}?) with CUDA capability (?P<capability>sm_\d+) is not compatible with the current PyTorch"
    r"(?:[^\n]{0,80}\s+The current PyTorch install supports CUDA capabilities (?P<archs>(?:(?:sm|compute)_\d+[a-f]? ?){1,30}))?"
)
"""What torch warns of when CUDA is first used, which stands above the error in stored text."""
FACTS = {"version": "2.4.0+cu121", "card": "NVIDIA B200", "capability": "sm_100"}


class NoKernelsForCard(Rule):
    """The card is newer or older than what torch, or an extension, was compiled for.

    *What it means*
    A CUDA program holds kernels for the generations of cards (`sm_86`, `sm_90`) that it was compiled for, and starts on no other.

    *Why it happens*
    The wheel of torch is older than the card, or new wheels have dropped it; or an extension with kernels of its own (flash-attn,
    bitsandbytes, xformers) was compiled for other cards than torch.

    *How tfdiag confirms it*
    It compares the list of torch's own kernels with the compute capability of the card in use.

    *Fixes and their safety*
    None that an edit could make: another wheel of torch or of the extension, and a restart.

    *Example*
    A tensor moved to an RTX 5080 with torch 2.4.

    *References*
    torch: `torch.cuda.get_arch_list`; NVIDIA: CUDA GPU compute capability.
    """

    code = "ENV002"
    name = "no-kernels-for-card"
    kinds = ("exception", "warning")
    raised = ("builtins.RuntimeError", "torch.AcceleratorError", "builtins.UserWarning")
    message = re.compile(
        r"no kernel image is available for execution on the device"
        r"|with CUDA capability sm_\d+ is not compatible with the current PyTorch installation"
        r"|which is of cuda capability (?P<old>\d+\.\d+)\.\s+PyTorch no longer supports this GPU because it is too old"
    )
    needs = (CudaArchsProbe,)
    links = (Link("Install PyTorch", "https://pytorch.org/get-started/locally/"),)
    CASES = (
        Match(text=BARE.replace("RuntimeError", "torch.AcceleratorError"), title="has no kernels for this card"),
        Match(text=BARE, certainty=Certainty.LIKELY, title="has no kernels for this card"),
        Match(
            text=f"UserWarning: {WARNING}\n{BARE}",
            title="torch has no kernels for the NVIDIA GeForce RTX 5080 .sm_120., only for sm_50 to sm_90",
        ),
        Match(text=f"UserWarning: {WARNING}", title="torch has no kernels for the NVIDIA GeForce RTX 5080"),
        Match(
            text="UserWarning: Found GPU0 Tesla K40c which is of cuda capability 3.5.\nPyTorch no longer supports this GPU because it is too old.",
            title="too old a card for this torch .compute capability 3.5.",
        ),
        Match(
            text=BARE,
            evidence={"cuda-archs": FACTS | {"archs": ("sm_80", "sm_90"), "fits": False}},
            certainty=Certainty.CONFIRMED,
            title="torch 2.4.0.cu121 has no kernels for the NVIDIA B200 .sm_100., only for sm_80 to sm_90",
        ),
        Match(
            text=BARE,
            evidence={"cuda-archs": FACTS | {"archs": ("sm_90", "sm_100"), "fits": True}},
            title="An extension has no kernels for the NVIDIA B200 .sm_100.; torch 2.4.0.cu121 itself has",
        ),
        NoMatch(text="RuntimeError: no kernel image named vmlinuz"),
        NoMatch(text="xgboost.core.XGBoostError: no kernel image is available for execution on the device"),
        NoMatch(text="RuntimeError: CUDA error: invalid device function in a kernel"),
        NoMatch(text="ImportError: numpy is not compatible with the current PyTorch installation"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TORCH) or raised_by_hand(hit.raised):
            return None
        seen = evidence[CudaArchsProbe.name]
        warned = CARD.search(failure.text or hit.raised.message)
        torch, why = (
            "torch",
            "Install a torch that is compiled for this card (the newest for a new one), and restart the kernel.",
        )
        certainty = Certainty.LIKELY
        if seen:
            torch, certainty = f"torch {seen['version']}", Certainty.CONFIRMED
            title = _title(torch, seen["card"], seen["capability"], seen["archs"])
            if seen["fits"]:
                certainty = Certainty.LIKELY
                title = f"An extension has no kernels for the {seen['card']} ({seen['capability']}); {torch} itself has"
                why = "The package of the last frames brings kernels of its own: install a build of it for this card and this torch."
        elif warned:
            title = _title(torch, warned["card"].strip(), warned["capability"], tuple((warned["archs"] or "").split()))
        elif hit["old"]:
            title = f"It is too old a card for this torch (compute capability {hit['old']})"
            why = "An older torch still has kernels for it; or compute on the CPU."
        else:
            title = "torch, or an extension with kernels of its own, has no kernels for this card"
        return self.found(
            title,
            certainty,
            what="A CUDA program starts only on the generations of cards that it was compiled for.",
            why=why,
            evidence=seen.seen,
        )


def _title(torch: str, card: str, capability: str, archs: tuple[str, ...]) -> str:
    only = f", only for {archs[0]} to {archs[-1]}" if len(archs) > 1 else f", only for {archs[0]}" if archs else ""
    return f"{torch} has no kernels for the {card} ({capability}){only}"
