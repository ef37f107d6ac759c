from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import own


class OptimizerStateMismatch(Rule):
    """An optimizer's saved state belongs to other parameters than the optimizer that loads it.

    *What it means*
    An optimizer's state is kept by position: as many groups, and as many parameters in each, as when it was saved.

    *Why it happens*
    Layers were frozen or unfrozen, an adapter or a head was added, or parameters are grouped otherwise (weight decay) than in the run that
    saved the checkpoint.

    *How tfdiag confirms it*
    Only `Optimizer.load_state_dict` says so, after counting.

    *Fixes and their safety*
    None is carried out: build model and optimizer as in the saved run, or load the weights alone and start a new optimizer.

    *Example*
    `trainer.train(resume_from_checkpoint=True)` after `freeze()` was added to the script

    *References*
    torch: `Optimizer.load_state_dict`.
    """

    code = "CKP007"
    name = "optimizer-state-mismatch"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"loaded state dict (?P<how>contains a parameter group that doesn't match the size of optimizer's group"
        r"|has a different number of parameter groups)"
    )
    links = (Link("Optimizer.load_state_dict", "https://docs.pytorch.org/docs/stable/optim.html"),)
    CASES = (
        Match(
            text="ValueError: loaded state dict contains a parameter group that doesn't match the size of optimizer's group",
            certainty=Certainty.LIKELY,
            title="other parameters",
        ),
        NoMatch(text="ValueError: optimizer got an empty parameter list"),
        Reproduce(
            (
                "import torch\nmodel = torch.nn.Linear(2, 2)\nsaved = torch.optim.SGD(model.parameters(), lr=0.1).state_dict()",
                "torch.optim.SGD([model.weight], lr=0.1).load_state_dict(saved)",
            ),
            certainty=Certainty.CONFIRMED,
            title="number of parameters in a group",
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure):
            return None  # words of the person's own
        what = "number of groups" if "different number" in hit["how"] else "number of parameters in a group"
        return self.found(
            f"The optimizer's saved state is for other parameters than this optimizer has: the {what} differs",
            Certainty.LIKELY if failure.stored else Certainty.CONFIRMED,
            what="States are matched by position, so both sides must have the same parameters in the same groups.",
            why="Something is frozen, added or grouped otherwise since it was saved. Rebuild it as it was, or load the model's weights only.",
        )
