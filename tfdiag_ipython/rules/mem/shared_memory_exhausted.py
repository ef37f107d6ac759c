from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Rule


class SharedMemoryExhausted(Rule):
    """A DataLoader worker was killed because memory ran out: shared memory (Bus error) or the host's (Killed).

    *What it means*
    Workers hand their batches over in shared memory (`/dev/shm`). When that is full, writing to it ends the worker with a bus error;
    when the host's memory is full, the kernel's out-of-memory killer ends it.

    *Why it happens*
    A container has 64 MB of shared memory unless told otherwise; many workers, large batches or a deep prefetch need more.

    *How tfdiag confirms it*
    The signal that ended the worker is in the message.

    *Fixes and their safety*
    None is carried out: the container's size is set outside of it (`--shm-size`), `num_workers=0` needs no shared memory.

    *Example*
    `DataLoader worker (pid 46794) is killed by signal: Bus error.`

    *References*
    PyTorch: `torch/utils/data`, multi-process data loading; Docker: `--shm-size`, `--ipc=host`.
    """

    code = "MEM004"
    name = "shared-memory-exhausted"
    raised = ("builtins.RuntimeError",)
    message = re.compile(
        r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) is killed by signal: (?P<signal>Bus error|Killed)"
        r"|unable to (?:write to|mmap|open|allocate|resize)[^\n]{0,200}?/torch_\w[^\n]{0,200}?(?:No space left|Cannot allocate memory)"
    )
    links = (
        Link("Multi-process data loading", "https://pytorch.org/docs/stable/data.html#multi-process-data-loading"),
    )
    CASES = (
        Match(
            text="RuntimeError: DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            certainty=Certainty.LIKELY,
            title="/dev/shm",
        ),
        Match(text="RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.", title="out of memory"),
        Match(
            text="RuntimeError: unable to write to file </torch_5_9_0>: No space left on device (28)", title="/dev/shm"
        ),
        NoMatch(text="RuntimeError: DataLoader worker (pid 7) is killed by signal: Segmentation fault."),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["signal"] == "Killed":
            return self.found(
                "The system killed a DataLoader worker: most likely the computer is out of memory (RAM)",
                Certainty.LIKELY,
                what="The operating system ended the worker with SIGKILL.",
                why="Every worker holds its own copy of the dataset's Python objects: use fewer workers or a memory-mapped dataset.",
            )
        return self.found(
            "Shared memory (/dev/shm) is full: DataLoader workers could not hand over their batches",
            Certainty.LIKELY,
            what="A worker writes its batch to /dev/shm, and there was no room.",
            why="In a container start it with --shm-size=8g or --ipc=host; else use fewer workers, or num_workers=0, which needs none.",
        )
