from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.cuda_setup import CudaSetupProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TORCH, own
from tfdiag_ipython.rules.trn._examples import NEEDS
from tfdiag_ipython.rules.trn._trainer_calls import training_arguments


class HalfPrecisionWithoutGpu(Rule):
    """Mixed precision was asked for, and torch sees no GPU that computes so.

    *What it means*
    `fp16=True` and `bf16=True` want an accelerator; bfloat16 on NVIDIA cards wants Ampere (compute capability 8.0) or newer.

    *Why it happens*
    The notebook's runtime has no GPU, the installed torch is built for the CPU only, the driver is too old, or the card is older than Ampere.

    *How tfdiag confirms it*
    The message says that torch found none; the build of the loaded torch tells whether it could use one.

    *Fixes and their safety*
    `full-precision` (unsafe: slower on a GPU, more memory) sets the argument to False.

    *Example*
    `TrainingArguments("out", bf16=True)` on a computer without a GPU.

    *References*
    transformers: `training_args.py`; accelerate: `accelerator.py`.
    """

    code = "TRN008"
    name = "half-precision-without-gpu"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"Mixed precision training with AMP or APEX \(`--(?P<amp>fp16)`\)[^\n]{0,200}?can only be used on CUDA"
        r"|(?P<accelerate>fp16) mixed precision requires a (?:GPU|device in)"
        r"|Your setup doesn't support (?P<brain>bf16)/gpu(?P<card>[^\n]{0,60}?Ampere)?"
    )
    needs = (CudaSetupProbe,)
    fixes = (Offer("full-precision", Applicability.UNSAFE),)
    links = (Link("Mixed precision", "https://huggingface.co/docs/transformers/perf_train_gpu_one#mixed-precision"),)
    CASES = (
        Match(
            text="ValueError: FP16 Mixed precision training with AMP or APEX (`--fp16`) and FP16 half precision evaluation "
            "(`--fp16_full_eval`) can only be used on CUDA or NPU devices or certain XPU devices (with IPEX).",
            certainty=Certainty.LIKELY,
            title="fp16=True needs a GPU, and torch sees none",
            fixes=("full-precision",),
        ),
        Match(
            text="ValueError: Your setup doesn't support bf16/gpu. You need Ampere+ GPU with cuda>=11.0",
            certainty=Certainty.LIKELY,
            title=r"bf16=True needs a GPU from Ampere on .A100, RTX 30., and torch sees no such card",
        ),
        Match(
            text="ValueError: fp16 mixed precision requires a GPU (not 'cpu').",
            title="fp16=True needs a GPU, and torch sees none",
        ),
        NoMatch(text="ValueError: Mixed precision is not supported by this optimizer"),
        NoMatch(text="ValueError: fp16 requires a scaler"),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', bf16=True)  # fast",
            ),
            title="bf16=True needs a GPU, and (?:torch sees none|this torch .* is built for the CPU only)",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("full-precision"),),
            needs=(*NEEDS, "without triton"),  # which comes with a torch for CUDA, where it may not fail
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[CudaSetupProbe.name]
        if own(failure, TORCH):
            return None
        argument = "bf16" if hit["brain"] else "fp16"
        card = "a GPU from Ampere on (A100, RTX 30)" if hit["card"] else "a GPU"
        built = seen and not seen["build"]
        none = "torch sees no such card" if hit["card"] else "torch sees none"  # there may be an older one
        found = f"this torch ({seen['version']}) is built for the CPU only" if built else none
        older = ", or on an older GPU with fp16=True" if hit["card"] else ""
        why = (
            "Install a torch that is built for your GPU, or train in full precision."
            if built
            else f"Choose a runtime with {card} and restart, or train in full precision{older}. `%tfdiag probe gpu` tells what this machine has."
        )
        fix = self.offer("full-precision", f"{argument}=False", "It trains in float32.", argument=argument)
        return self.found(
            f"{argument}=True needs {card}, and {found}",
            Certainty.CONFIRMED if seen and not failure.stored else Certainty.LIKELY,
            what="Mixed precision computes on an accelerator.",
            why=why,
            evidence=seen.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        argument = str(fix.parameters["argument"])
        return edit_cells(
            scene, lambda source: set_arguments(source, training_arguments(argument), {argument: "False"}), apart=True
        )
