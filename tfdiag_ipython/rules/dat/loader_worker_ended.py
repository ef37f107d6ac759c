from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.loader_workers import LoaderWorkersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.trn._trainer_calls import training_arguments


class LoaderWorkerEnded(Rule):
    """A worker process of a DataLoader ended without saying why.

    *What it means*
    With `num_workers` above 0 other processes read the rows. One ended by itself; what it had to say is not in this traceback.

    *Why it happens*
    Where processes are started by spawn (Windows, macOS), they import what they need, and what is defined in a notebook cannot be imported;
    or a library crashed in the worker, or the system ended it.

    *How tfdiag confirms it*
    It takes the DataLoader from the frames: its number of workers, how they are started, and whether its data set or collator is the notebook's
    own.

    *Fixes and their safety*
    `load-in-this-process` (unsafe: slower, other random numbers) sets the number of workers to 0: it works, or the real error appears.

    *Example*
    `DataLoader(rows, num_workers=4)` in a notebook on Windows, with a data set class of the notebook.

    *References*
    PyTorch: `torch/utils/data/dataloader.py`; multi-process data loading, platform-specific behaviours.
    """

    code = "DAT002"
    name = "loader-worker-ended"
    raised = ("builtins.RuntimeError",)
    message = re.compile(r"DataLoader worker \(pid\(?s?\)? [\d, ]{1,400}\) exited unexpectedly")
    needs = (LoaderWorkersProbe,)
    fixes = (Offer("load-in-this-process", Applicability.UNSAFE),)
    links = (
        Link("Multi-process data loading", "https://pytorch.org/docs/stable/data.html#multi-process-data-loading"),
    )
    CASES = (
        Match(
            text="RuntimeError: DataLoader worker (pid(s) 71, 72) exited unexpectedly",
            certainty=Certainty.LIKELY,
            title="A DataLoader worker ended without saying why: num_workers=0 shows it",
            fixes=("load-in-this-process",),
        ),
        Match(
            failure=Failure.from_text("RuntimeError: DataLoader worker (pid(s) 71) exited unexpectedly"),
            evidence={"loader-workers": {"workers": 2, "method": "spawn", "local": ("Reviews",), "trainer": False}},
            certainty=Certainty.LIKELY,
            title="`Reviews` is defined in this notebook, and DataLoader workers started by spawn cannot import it",
        ),
        NoMatch(
            text="RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.",
            code="MEM004",
        ),
        NoMatch(text="RuntimeError: gunicorn worker (pid 71) exited unexpectedly"),
        Reproduce(
            (
                "import os, torch\nclass Files(torch.utils.data.Dataset):\n    def __len__(self):\n        return 2\n"
                "    def __getitem__(self, number):\n"
                "        return os._exit(3) if torch.utils.data.get_worker_info() else number\nfiles = Files()",
                "loader = torch.utils.data.DataLoader(files, num_workers=1, multiprocessing_context='fork')",
                "numbers = list(loader)",
            ),
            title=r"A DataLoader worker ended(?: \(exit code 3\))? without saying why: num_workers=0 shows it",
            certainty=Certainty.LIKELY,
            fixes=(Try("load-in-this-process"),),
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[LoaderWorkersProbe.name]
        if own(failure):
            return None
        why = "Without workers the rows are read in this process: it then works, or the real error appears."
        if seen and seen["local"] and seen["method"] in ("spawn", "forkserver"):
            names = " and ".join(f"`{name}`" for name in seen["local"])
            verb, it = ("is", "it") if len(seen["local"]) == 1 else ("are", "them")
            title = f"{names} {verb} defined in this notebook, and DataLoader workers started by {seen['method']} cannot import {it}"
            why = f"Move {it} into a file that both can import, or read the rows without workers."
        else:
            told = failure.says(r"exited unexpectedly with exit code (\d{1,6})")
            status = f" (exit code {told[1]})" if told else ""
            title = f"A DataLoader worker ended{status} without saying why: num_workers=0 shows it"
        trainer = bool(seen and seen["trainer"])
        label = "dataloader_num_workers=0" if trainer else "num_workers=0"
        fix = self.offer("load-in-this-process", label, "Slower, and random numbers are others.", trainer=trainer)
        return self.found(
            title,
            Certainty.LIKELY,
            what="The rows are read by other processes, and one of them is gone.",
            why=why,
            evidence=seen.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.parameters["trainer"]:
            given: dict[str, str | None] = {"dataloader_num_workers": "0"}
            return edit_cells(
                scene, lambda source: set_arguments(source, training_arguments(next(iter(given))), given), apart=True
            )
        alone: dict[str, str | None] = {
            "num_workers": "0",
            "multiprocessing_context": None,
            "persistent_workers": None,
            "prefetch_factor": None,
        }
        return edit_cells(scene, lambda source: set_arguments(source, calls_to("DataLoader"), alone), apart=True)
