from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Rule
from tfdiag_ipython.rules._places import TRANSFORMERS

_OWNERS = (
    (
        r"init_empty_weights|dispatch_model|infer_auto_device_map|PartialState|Accelerat\w+|find_tied_parameters|AlignDevicesHook",
        "accelerate",
    ),
    (r"PILImageResampling|PIL|Image|ImageDraw", "Pillow"),
    (r"torch|nn|Tensor|LRScheduler|F", "torch"),
    (r"bnb", "bitsandbytes"),
    (r"spm|sentencepiece", "sentencepiece"),
    (r"(?:is_)?flash_attn\w*|_flash\w+|pad_input|unpad_input|index_first_axis", "flash-attn"),
    (r"Peft\w+|PEFT\w*", "peft"),
)


class NameMissingInLibrary(Rule):
    """Transformers itself stumbles over a name that it imports from an optional package.

    *What it means*
    The library imports its optional packages only where they are there, and used a name of one that is not.

    *Why it happens*
    The package is missing, too old for this transformers, or was installed after the kernel had imported transformers.

    *How tfdiag confirms it*
    The line that failed is in transformers' own code, not in the notebook; the name tells the package.

    *Fixes and their safety*
    `install` is shown only: install or upgrade the package, then restart the kernel.

    *Example*
    `NameError: name 'init_empty_weights' is not defined` in `from_pretrained(device_map="auto")`.

    *References*
    transformers: `modeling_utils.py`, the imports that depend on `is_accelerate_available()`.
    """

    code = "IMP014"
    name = "name-missing-in-library"
    raised = ("builtins.NameError",)
    message = re.compile(r"name '(?P<undefined>\w+)' is not defined")
    needs = (PackageVersionsProbe,)
    fixes = (Offer("install", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/modeling_utils.py", line 2665, in from_pretrained\n'
            "    init_contexts = [init_empty_weights()]\nNameError: name 'init_empty_weights' is not defined",
            certainty=Certainty.LIKELY,
            title="`init_empty_weights` of accelerate",
            fixes=("install",),
        ),
        NoMatch(text="NameError: name 'init_empty_weights' is not defined"),
        NoMatch(
            text='Traceback (most recent call last):\n  File "train.py", line 5, in <module>\n    torch.ones(2)\n'
            "NameError: name 'torch' is not defined"
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        frames, name = hit.raised.frames, hit["undefined"]
        owner = next((package for names, package in _OWNERS if re.fullmatch(names, name)), "")
        if not owner or not frames or not TRANSFORMERS.search(frames[-1].file):
            return None  # the person's own name
        fix = self.offer("install", f"pip install --upgrade {owner}", f"{THEN_RESTART}.")
        return self.found(
            f"transformers needs `{name}` of {owner}, which is missing, too old or newer than this kernel",
            Certainty.LIKELY,
            what=f"{owner} could not be imported when transformers was loaded, so the name was never defined.",
            why=f"Install or upgrade {owner} and restart the kernel: transformers looks for its packages only while it is loaded.",
            evidence=evidence[PackageVersionsProbe.name].seen,
            fixes=(fix,),
        )
