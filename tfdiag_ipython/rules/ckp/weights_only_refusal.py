from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

_GLOBAL = r"[Uu]nsupported (?:global: GLOBAL|class) (?P<name>[\w.]+)|GLOBAL (?P<other>[\w.]+) was not an allowed global"


class WeightsOnlyRefusal(Rule):
    """`torch.load` refuses a file that holds more than tensors.

    *What it means*
    Since torch 2.6 `torch.load` reads with `weights_only=True`: tensors and plain containers only, because unpickling anything else can
    run code from the file.

    *Why it happens*
    The file holds a whole model, a configuration object, NumPy scalars, an optimizer of one's own: things that `torch.save` pickled.

    *How tfdiag confirms it*
    The message names the first class or function that was refused.

    *Fixes and their safety*
    `trust-this-file` (unsafe: the file may run any code) sets `weights_only=False` in the call. Only for a file that you made or trust.

    *Example*
    `torch.load("checkpoint.pt")` where a training script saved `{"model": model, "args": args}`

    *References*
    torch 2.6: release notes; `torch.load`, `torch.serialization.add_safe_globals`.
    """

    code = "CKP005"
    name = "weights-only-refusal"
    raised = ("_pickle.UnpicklingError", "builtins.RuntimeError")
    message = re.compile(r"(?P<refused>Weights only load failed|WeightsUnpickler error: Unsupported (?:global|class))")
    fixes = (Offer("trust-this-file", Applicability.UNSAFE),)
    links = (Link("torch.load", "https://docs.pytorch.org/docs/stable/generated/torch.load.html"),)
    CASES = (
        Match(
            text="_pickle.UnpicklingError: Weights only load failed. This file can still be loaded, to do so you have two options\n"
            "\tWeightsUnpickler error: Unsupported global: GLOBAL functools.partial was not an allowed global by default.",
            certainty=Certainty.LIKELY,
            title="`functools.partial`",
        ),
        Match(
            text="_pickle.UnpicklingError: Weights only load failed. Re-running `torch.load` with",
            title="more than tensors",
        ),
        NoMatch(
            text="_pickle.UnpicklingError: Weights only load failed. WeightsUnpickler error: \n\nUnsupported operand 118",
            code="CKP002",
        ),
        Reproduce(
            (
                "import functools, tempfile, torch\n"
                "path = tempfile.mkdtemp() + '/checkpoint.pt'\n"
                "torch.save({'weight': torch.ones(2), 'schedule': functools.partial(max, 0)}, path)",
                "checkpoint = torch.load(path)",
            ),
            certainty=Certainty.CONFIRMED,
            title="`functools.partial`",
            fixes=(Try("trust-this-file"),),
            needs=("torch>=2.6",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if failure.says(r"Unsupported operand \d+|invalid load key"):
            return None
        found = failure.says(_GLOBAL)
        refused = (found["name"] or found["other"]).rstrip(".") if found else ""
        inside = f"`{refused}`" if refused else "more than tensors"
        explanation = "The file may run any code while it is read: only for a file that you made or trust."
        return self.found(
            f"torch.load refuses this file, which holds {inside}: since torch 2.6 it reads tensors only (weights_only=True)",
            Certainty.CONFIRMED if refused else Certainty.LIKELY,
            what=f"The file holds {inside}{', which is not a tensor or a plain container' if refused else ''}.",
            why="If you trust the file: weights_only=False, or torch.serialization.add_safe_globals for the class named. Save "
            "state_dict() or safetensors next time.",
            fixes=(self.offer("trust-this-file", "I trust this file: weights_only=False", explanation),),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        # `json.load` has no such argument: only torch's own
        wanted = calls_to("torch.load")
        return edit_cells(scene, lambda source: set_arguments(source, wanted, {"weights_only": "False"}), apart=True)
