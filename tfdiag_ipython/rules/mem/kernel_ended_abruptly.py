from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link, Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule
from tfdiag_ipython.sizes import memory_size

ENDED = "tfdiag.KernelEnded"
MESSAGE = "The kernel ended while a cell was running."


def ended(cell: int = 12, **facts: Any) -> Failure:
    """What the shell finds when a kernel starts again after it was killed; the facts are those of its note."""
    return Failure.from_finding(ENDED, MESSAGE, {"cell": cell, "line": "trainer.train()", **facts})


class KernelEndedAbruptly(Rule):
    """The kernel was ended from outside while a cell ran: most often by the system, because the computer's memory was full.

    *What it means*
    When memory runs out, Linux ends the process that uses most of it (SIGKILL). Python cannot say anything any more: the notebook only
    shows that the kernel died and was started again.

    *Why it happens*
    Data, models or workers need more memory than the machine, the container or the job may use; Colab and Kaggle set such limits.

    *How tfdiag confirms it*
    Before each cell it notes the cell and the resident memory in a small file, which is removed when the kernel ends as it should.
    After the restart it compares the system's count of killed processes (cgroup `oom_kill`) with the one before. Grown: likely.
    Otherwise it cannot know, and says so: a crash in native code ends the same way, and a restart by hand may.

    *Fixes and their safety*
    None is carried out: what needed the memory is gone. Load less at once (memory-mapped or streamed data, lower precision, fewer
    workers).

    *Example*
    `data = torch.cat([load(file) for file in files])`

    *References*
    Linux: `Documentation/admin-guide/cgroup-v2.rst`, `memory.events`.
    """

    code = "MEM006"
    name = "kernel-ended-abruptly"
    kinds = ("check",)
    raised = (ENDED,)
    message = re.compile(r"The kernel ended while a cell was running")
    links = (Link("cgroup memory events", "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files"),)
    CASES = (
        Match(
            failure=ended(resident=3 * 2**30, total=2**34, limit=2**34, killed=1, killed_since=2),
            certainty=Certainty.LIKELY,
            title=r"memory ran out in cell 12 \(`trainer.train\(\)`\)",
        ),
        Match(
            failure=ended(resident=3 * 2**30, total=2**34, limit=None, killed=1, killed_since=1),
            certainty=Certainty.POSSIBLE,
            title="ended without a word",
        ),
        Match(
            failure=ended(resident=None, total=None, limit=None, killed=None, killed_since=None),
            certainty=Certainty.POSSIBLE,
            title="ended without a word",
        ),
        NoMatch(text="RuntimeError: The kernel died before replying to kernel_info"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        facts = failure.facts
        place = f"cell {facts['cell']}" if facts.get("cell") else "a cell"
        place += f" (`{facts['line'][:60]}`)" if facts.get("line") else ""
        before, since = facts.get("killed"), facts.get("killed_since")
        resident, total, limit = facts.get("resident"), facts.get("total"), facts.get("limit")
        seen = []
        if resident is not None:
            seen.append(
                Observation(
                    "resident before the cell", memory_size(resident), share=resident / total if total else None
                )
            )
        if limit is not None:
            seen.append(Observation("limit of this container or job", memory_size(limit), "cgroup"))
        elif total is not None:
            seen.append(Observation("memory of this machine", memory_size(total)))
        if before is not None and since is not None:
            seen.append(
                Observation("processes killed for lack of memory", f"{before} before, {since} now", "cgroup oom_kill")
            )
        if before is not None and since is not None and since > before:
            return self.found(
                f"The computer's memory ran out in {place}, and the system ended the kernel",
                Certainty.LIKELY,
                what="The system counted one more process that it killed for lack of memory since the cell began.",
                why="All variables are lost. Load less at once before the cell runs again: memory-mapped or streamed data, lower "
                "precision, fewer workers.",
                evidence=tuple(seen),
            )
        told = (
            "The system's count of processes killed for lack of memory has not grown, which speaks against it"
            if before is not None and since is not None
            else "The system does not say whether it did"
        )
        return self.found(
            f"The kernel ended without a word in {place}: perhaps the system killed it because memory was full",
            Certainty.POSSIBLE,
            what=f"{told}. A crash in native code ends a kernel like this, too, and so does a restart by hand that the cell did not hear.",
            why="Watch the memory while the cell runs again (`%tfdiag probe memory` before it); all variables are lost.",
            evidence=tuple(seen),
        )
