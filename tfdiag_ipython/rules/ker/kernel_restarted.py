from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.restart import RunAgain, guards
from tfdiag_ipython.probe import Cell, Evidence, Scene
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

RESTARTED = "tfdiag.KernelRestarted"
MESSAGE = "The kernel was restarted from the panel."


def restarted(*cells: tuple[int, str]) -> Failure:
    """What the shell finds in a kernel that was restarted from a panel: the cells (number and source) up to the one that had failed."""
    return Failure.from_finding(RESTARTED, MESSAGE, {"cells": cells})


class KernelRestarted(Rule):
    """The kernel was restarted from a panel, and the cells up to the one that had failed are to be run again.

    *What it means*
    All variables are gone. The cells are listed in the order in which they were run; of one that was run several times, its newest
    version. Cells that had ended with an error are left out, but for the last.

    *Why it happens*
    A dead CUDA context, or a module that is loaded in an old version, leaves no other way.

    *How tfdiag confirms it*
    The kernel that was restarted left the list, in a file of your own beside its connection file; this one has taken it away.

    *Fixes and their safety*
    `run-again` (unsafe: it runs your cells again, downloads and training included) shows all sources first, runs them in order and stops
    at the first that fails. After a device-side assert the last one runs with the index guard on. Their output stands in the panel.

    *Example*
    A click on "Restart the kernel", then `%load_ext tfdiag`.

    *References*
    None: tfdiag's own.
    """

    code = "KER001"
    name = "kernel-restarted"
    kinds = ("check",)
    raised = (RESTARTED,)
    message = re.compile(re.escape(MESSAGE))
    fixes = (Offer("run-again", Applicability.UNSAFE),)
    links = (Link("Restarting a kernel", "https://jupyterlab.readthedocs.io/en/stable/user/running.html"),)
    CASES = (
        Match(
            failure=restarted((2, "import torch"), (5, "%%tfdiag --guard\nstep(batch)")),
            certainty=Certainty.CONFIRMED,
            title="run again cell 2, then cell 5 with the index guard on",
            fixes=("run-again",),
        ),
        Match(failure=restarted((7, "x = 1")), title="restarted: run again cell 7$"),
        NoMatch(text="The kernel was restarted from the panel."),
        NoMatch(failure=Failure.from_finding("tfdiag.KernelEnded", "Something else.", {})),
        Reproduce(
            ("start = 1",),
            finding=restarted((1, "start = 1"), (2, "again = start + 1")),
            needs=(),
            title="run again cell 1, then cell 2$",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("run-again"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        cells = _cells(failure.facts.get("cells", ()))
        if not cells:
            return None
        *before, last = cells
        guarded = " with the index guard on" if guards(last.source) else ""
        listed = f"{_listed(before)}, then {last.label}" if before else last.label
        fix: Fix = self.offer(
            "run-again",
            f"Run them, up to {last.label}" if before else f"Run {last.label}",
            "Shows all sources first, runs them in this order and stops at the first that fails.",
            cells=[[cell.number, cell.source] for cell in cells],
        )
        return self.found(
            f"The kernel was restarted: run again {listed}{guarded}",
            Certainty.CONFIRMED,
            what="All variables are lost, and no cell runs by itself: leave out what is slow and no longer needed.",
            why="The guard stops a bad index before it reaches the GPU, and names it." if guarded else "",
            evidence=tuple(Observation(cell.label, _line(cell.source)) for cell in cells),
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if scene.host is None:
            raise PlanError("The cells can only be run where the notebook's kernel is.")
        return RunAgain(scene.host, _cells(fix.parameters["cells"]))


def _cells(noted: Any) -> list[Cell]:
    return [Cell(int(number), str(source)) for number, source in noted]


def _listed(cells: list[Cell]) -> str:
    """Such as ``cells 1 to 3 and 5``."""
    numbers = [cell.number for cell in cells]
    return cells[0].label if len(cells) == 1 else f"cells {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip() and not line.startswith("%%tfdiag")), "")[
        :100
    ]
