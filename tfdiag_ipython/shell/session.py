"""One diagnosed failure, as its panel knows it: values, and a mark by which the exception is found again if it still is there."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Diagnosis, Fix, Status, Verification
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.shell.host import ShellHost
from tfdiag_ipython.shell.scene import Mark, mark_of, newest_exception, still

if TYPE_CHECKING:
    from tfdiag_ipython.shell.extension import Extension

CHECKED_LATER = "Run the cell again; I will check it then."


class ShellSession:
    """The :class:`tfdiag_ipython.render.panel.Session` of one failure in a shell. It holds nothing of the failed cell's."""

    def __init__(
        self, extension: Extension, failure: Failure, diagnoses: list[Diagnosis], cell: Cell | None, seen: Mark | None
    ) -> None:
        self.diagnoses = diagnoses
        self.failure = failure
        self.cell = cell
        self.shown: list[tuple[str, bool]] = []
        """The names of the outputs that show the diagnoses, and whether they are brief."""
        self._extension = extension
        self._seen = seen
        self._host = ShellHost(extension, failure, seen)

    def name_for(self, brief: bool) -> str:
        """A name of its own for an output that is about to show the diagnoses."""
        self.shown.append((f"tfdiag-{secrets.token_hex(6)}", brief))
        return self.shown[-1][0]

    def plan(self, diagnosis: Diagnosis, fix: Fix) -> Plan:
        """Work a fix out for the program as it is now; raises ``TfdiagError`` with one sentence."""
        exception, unseen = still(self._seen)
        scene = self._extension.scene(exception, self.cell, self._host, unseen=unseen)
        del exception
        try:
            return self._extension.engine().plan(diagnosis, fix, scene, self.failure)
        finally:
            scene.close()

    def apply(self, plan: Plan, progress: Progress) -> tuple[str, Verification]:
        """Carry a plan out: what was done, and how it ended; what could not be checked here is when the cell runs next."""
        earlier = self._extension.undoable
        done, verification = self._extension.engine().apply(plan, progress)
        if plan.bindings is not None and earlier is not None and earlier.bindings is not None:
            plan.bindings.follow(earlier.bindings)
        self._extension.undoable = plan
        if verification.status is Status.PENDING:
            self.expect(plan)
        self._look_at_the_other(verification)
        return done, verification

    def check(self, plan: Plan, progress: Progress) -> Verification:
        """Verify what was carried out before."""
        verification = plan.verify(progress)
        self._look_at_the_other(verification)
        return verification

    def _look_at_the_other(self, verification: Verification) -> None:
        """Where the fix led to another failure, its diagnosis is shown where the fix's output stands."""
        failed, exception = self._host.failed, newest_exception()
        if verification.status is not Status.OTHER_FAILURE or failed is None or exception is None:
            return
        failure, cell = failed
        seen = mark_of(exception)
        try:
            self._extension.diagnose(failure, exception, cell, seen)
        finally:
            del exception

    def on_main_thread(self, action: Callable[[], None]) -> bool:
        """Have the kernel's main thread do this once no cell runs, if this is another thread; whether it will.

        Cells that it would run are left to the person: what they print would not reach the page from there.
        """
        loop = getattr(getattr(self._extension.shell, "kernel", None), "io_loop", None)
        if loop is None or threading.current_thread() is threading.main_thread():
            return False
        loop.add_callback(self._host.without_cells, action)
        return True

    def expect(self, plan: Plan | None = None, *, put: bool = False) -> Verification:
        """Check the failing cell when the person runs it next, under the id or with the source that it has then.

        A plan that was ``put`` into the notebook's text gets its Undo below that run.
        """
        cells = plan.reruns if plan is not None else ()
        about = [cell for cell in (self.cell, *cells[-1:]) if cell is not None]
        self._extension.expect(self.failure, about, (plan, self) if plan is not None and put else None)
        return Verification(Status.PENDING, CHECKED_LATER)

    def withdraw(self, plan: Plan) -> None:
        """The plan was not put into the notebook's text after all: the next run of the cell is the person's own."""
        self._extension.withdraw(plan)

    def report(self) -> str:
        """The redacted report of this failure, as Markdown."""
        return self._extension.report(self)

    def reject(self, code: str) -> str:
        """Silence a rule whose diagnosis is wrong, for this session; the redacted report that says so, as Markdown."""
        return self._extension.reject(self, code)

    def page(self, code: str) -> str:
        """A rule's page, as Markdown; raises ``UnknownCodeError``."""
        return self._extension.engine().registry.get(code).page()
