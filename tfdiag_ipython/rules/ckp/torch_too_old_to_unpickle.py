from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class TorchTooOldToUnpickle(Rule):
    """transformers will not read a pickled checkpoint with a torch before 2.6.

    *What it means*
    Through torch 2.5 even `weights_only=True` could be made to run code (CVE-2025-32434). transformers therefore reads `.bin` and `.pt`
    files only with torch 2.6 or newer; safetensors files load with any.

    *Why it happens*
    The repository has no safetensors file, or the Trainer resumes from `optimizer.pt` and `scheduler.pt`.

    *How tfdiag confirms it*
    Only this check says so.

    *Fixes and their safety*
    None is carried out: another torch must fit your CUDA. Upgrade torch, or load safetensors (`use_safetensors=True`).

    *Example*
    `trainer.train(resume_from_checkpoint=True)` with torch 2.5.1 and transformers 4.52

    *References*
    transformers: `utils/import_utils.py`, `check_torch_load_is_safe`; CVE-2025-32434.
    """

    code = "CKP006"
    name = "torch-too-old-to-unpickle"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"(?P<why>serious vulnerability issue in `?torch\.load`?)(?:.{0,200}?at least v?(?P<least>[\d.]+\d))?",
        re.DOTALL,
    )
    links = (Link("CVE-2025-32434", "https://nvd.nist.gov/vuln/detail/CVE-2025-32434"),)
    CASES = (
        Match(
            text="ValueError: Due to a serious vulnerability issue in `torch.load`, even with `weights_only=True`, we now require users "
            "to upgrade torch to at least v2.6 in order to use the function.",
            certainty=Certainty.LIKELY,
            title="torch 2.6",
        ),
        NoMatch(text="ValueError: torch.load needs a file"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        here = failure.versions.get("torch", "")
        return self.found(
            f"transformers reads pickled checkpoints (.bin, .pt) only with torch {hit['least'] or '2.6'} or newer"
            f"{f', here is {here}' if here else ''}",
            Certainty.CONFIRMED if here and not failure.stored else Certainty.LIKELY,
            what="The check protects from CVE-2025-32434; safetensors files are not affected.",
            why="Upgrade torch, or use a checkpoint in safetensors format; a Trainer's optimizer.pt needs the upgrade.",
        )
