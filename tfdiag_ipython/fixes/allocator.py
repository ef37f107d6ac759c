"""Settings of PyTorch's allocator, which it reads once: a cell that sets them before torch is imported, for the next start."""

from __future__ import annotations

import sys
from typing import Any

from tfdiag_ipython.diagnosis import Status, Verification
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Host, Plan, Preview, Progress
from tfdiag_ipython.fixes.aliases import imported
from tfdiag_ipython.fixes.cells import CellEdit, diff, newest_versions
from tfdiag_ipython.fixes.restart import NOW_RESTART, THEN_RESTART
from tfdiag_ipython.probe import Scene

SETTING = "expandable_segments:True"
IMPORTERS = ("torch", "transformers", "accelerate", "datasets")


def allocator_variable(*, hip: bool = False) -> str:
    """The environment variable for the allocator's settings.

    The newer `PYTORCH_ALLOC_CONF` is not used: torch 2.9 to 2.11 ignore this setting there (pytorch issue 183387), and every torch
    reads the older names.
    """
    return "PYTORCH_HIP_ALLOC_CONF" if hip else "PYTORCH_CUDA_ALLOC_CONF"


class SetBeforeStart(Plan):
    """The first cell that imports torch, with the setting above it: it counts when the kernel has started again with that cell."""

    def __init__(self, host: Host, edit: CellEdit, variable: str) -> None:
        super().__init__(host)
        self.edit = edit
        self.variable = variable
        self.sources = (edit.source,)

    def preview(self) -> Preview:
        shown = diff(self.edit.cell.source, self.edit.source, self.edit.cell.label)
        once = "PyTorch reads it once, when its first CUDA tensor is made"
        note = f"{once}: put this cell in. {THEN_RESTART}. Nothing runs now."
        return Preview("diff", shown, note)

    def execute(self, progress: Progress) -> str:
        return f"Wrote an edited copy of {self.edit.cell.label}, which sets {self.variable} for the next start."

    def undo(self) -> str:
        return "Nothing was changed in this process; leave the cell as it is."

    def verify(self, progress: Progress) -> Verification:
        return Verification(
            Status.NOT_CHECKED,
            f"This process goes on with the old setting: put the edited {self.edit.cell.label} in. {NOW_RESTART}.",
        )


def expandable_segments(scene: Scene) -> SetBeforeStart:
    """Plan the setting; raises ``PlanError`` where no cell imports torch or one sets it already."""
    if scene.host is None:
        raise PlanError("The program is not at hand: set it by hand.")
    torch: Any = sys.modules.get("torch")
    variable = allocator_variable(hip=torch is not None and bool(torch.version.hip))
    cells = newest_versions(scene.cells)
    if any("ALLOC_CONF" in cell.source for cell in cells):
        raise PlanError(f"A cell sets it already: it must run before torch is imported. This torch reads {variable}.")
    for cell in cells:
        if {real.partition(".")[0] for real in imported(cell.source).values()} & set(IMPORTERS):
            head, rest = _split(cell.source)
            source = f'{head}import os\n\nos.environ["{variable}"] = "{SETTING}"\n{rest}'
            return SetBeforeStart(scene.host, CellEdit(cell, source), variable)
    raise PlanError(f"No cell that was run imports torch: set {variable}={SETTING} before the program starts.")


def _split(source: str) -> tuple[str, str]:
    """A cell magic must stay the first line."""
    if not source.lstrip().startswith("%%"):
        return "", source
    head, _, rest = source.partition("\n")
    return f"{head}\n", rest
