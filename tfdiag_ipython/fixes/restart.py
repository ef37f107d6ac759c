"""Restart the kernel: the only remedy for a dead CUDA context and for modules that are loaded in an old version."""

from __future__ import annotations

from tfdiag_ipython.fix import Plan, Preview, Progress


class RestartKernel(Plan):
    """Ends this kernel process and starts a new one; all variables are lost."""

    undoable = False

    def preview(self) -> Preview:
        count = sum(1 for name in self.host.namespace if not name.startswith("_"))
        return Preview("text", f"Restart the kernel: its {count} variables are lost.", "This cannot be undone.")

    def execute(self, progress: Progress) -> str:
        self.host.restart()
        return "The kernel restarts. Run the cells again from the top."
