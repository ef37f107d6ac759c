from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class ModelLargerThanDevice(Rule):
    """The GPU has no room for the whole model, so that a part was placed on the CPU or the disk, where it cannot stay.

    *What it means*
    `device_map="auto"` fills the GPUs, then the computer's memory, then the disk. What comes after the GPUs is not allowed here:
    quantized layers run on the GPU only, and the disk needs a folder.

    *Why it happens*
    The model is larger than the memory that was free when it was loaded: another process, an earlier model in this notebook, or the
    model's size itself.

    *How tfdiag confirms it*
    From the message, which says which part was not allowed.

    *Fixes and their safety*
    None is carried out: free the GPU (`nvidia-smi` lists who uses it), load in 4 instead of 8 bit, or take a smaller model.

    *Example*
    `AutoModelForCausalLM.from_pretrained(name, device_map="auto", quantization_config=BitsAndBytesConfig(load_in_8bit=True))`

    *References*
    transformers: `quantizers/quantizer_bnb_8bit.py`, `validate_environment`; accelerate: `big_modeling.py`, `dispatch_model`.
    """

    code = "MEM005"
    name = "model-larger-than-device"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"(?P<quantized>Some modules are dispatched on the CPU or the disk)"
        r"|(?P<disk>`device_map` had weights offloaded to the disk)"
        r"|(?P<folder>We need an `offload_dir` to dispatch this model)"
    )
    links = (Link("Big model inference", "https://huggingface.co/docs/accelerate/usage_guides/big_modeling"),)
    CASES = (
        Match(
            text="ValueError: Some modules are dispatched on the CPU or the disk. Make sure you have enough GPU RAM to fit the quantized "
            "model.",
            certainty=Certainty.LIKELY,
            title="GPU .* no room for the whole model",
        ),
        Match(
            text="ValueError: The current `device_map` had weights offloaded to the disk. Please provide an `offload_folder` for them.",
            title="disk",
        ),
        NoMatch(text="ValueError: Some modules are dispatched to another team."),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        where = "the CPU or the disk, where quantized layers cannot run" if hit["quantized"] else "the disk"
        return self.found(
            f"The GPU has no room for the whole model: a part was to go to {where}",
            Certainty.LIKELY,
            what="`device_map` fills the GPUs first; what does not fit comes after them.",
            why="Free the GPU (nvidia-smi lists who uses it), load in fewer bits, or take a smaller model.",
        )
