"""``%load_ext tfdiag`` and ``%unload_ext tfdiag``: what tfdiag adds to one shell, and how it takes it away again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Status
from tfdiag_ipython.shell.display import has_widgets, in_kernel, publish, show_diagnoses, show_line
from tfdiag_ipython.shell.handover import Handover
from tfdiag_ipython.shell.journal import Journal, fault
from tfdiag_ipython.shell.kernel_words import KernelWords
from tfdiag_ipython.shell.listener import Listener
from tfdiag_ipython.shell.magics import TfdiagMagics, complete
from tfdiag_ipython.shell.observe import Observation, unwrap
from tfdiag_ipython.shell.pending import Pending
from tfdiag_ipython.shell.scene import Mark, cells_up_to, kills_cuda
from tfdiag_ipython.shell.settings import TfdiagSettings

if TYPE_CHECKING:
    from tfdiag_ipython.engine import Engine
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.fix import Host, Plan
    from tfdiag_ipython.probe import Cell, Evidence, Scene
    from tfdiag_ipython.shell.session import ShellSession

NAMES = ("tfdiag", "tfdiag_ipython")
"""The modules that ``%load_ext`` takes; both mean this one extension."""
COMPLETED = ("%tfdiag", "%%tfdiag")
PENDING_KEPT = 20
_loaded: WeakKeyDictionary[Any, Extension] = WeakKeyDictionary()
_ABSENT = object()


def extension_of(shell: Any) -> Extension | None:
    """What tfdiag keeps for this shell; ``None`` where it is not loaded."""
    return _loaded.get(shell)


def load(shell: Any) -> None:
    """Add tfdiag to a shell, once; from then on it counts as loaded under both names, so that either unloads it."""
    if shell not in _loaded:
        extension = Extension(shell)
        extension.install()
        _loaded[shell] = extension
    shell.extension_manager.loaded.update(name for name in NAMES if name in sys.modules)


def unload(shell: Any) -> None:
    """Take tfdiag away from a shell; nothing happens where it is not."""
    extension = _loaded.pop(shell, None)
    if extension is not None:
        extension.remove()
    shell.extension_manager.loaded.difference_update(NAMES)


def _load_rules() -> None:
    """Do once what the first diagnosis needs: import the rules, build the index, compile the template."""
    try:
        from tfdiag_ipython.api import registry
        from tfdiag_ipython.failure import Failure
        from tfdiag_ipython.render.html import render_html

        registry().match(Failure.from_text("builds the index"))
        render_html([Diagnosis("", "", "", Certainty.POSSIBLE)])
    except Exception:
        fault("The rules could not be loaded ahead of time.")


class Extension:
    """Everything that tfdiag keeps for one shell: settings, log, hook, magics, the last failure, checks that are due."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.settings, self._mistakes = TfdiagSettings.of(shell)
        self.journal = Journal()
        self.listener = Listener(self)
        self.last: ShellSession | None = None  # the last failure, known or not
        self.diagnosed: ShellSession | None = None
        self.cuda_dead = False
        self.undoable: Plan | None = None  # what was carried out last, until another cell runs
        self.handover = Handover(self)
        self._words = KernelWords()
        self._warm = False
        self._pending: list[Pending] = []
        self._magics = TfdiagMagics(shell, self)
        self._magics_before: dict[str, object] = {}
        self._completers_before: dict[str, object] = {}

    def install(self) -> None:
        configured = self.shell.config.get("TfdiagSettings", ())
        for mistake in [*self._mistakes, *self.settings.take(configured)]:
            print(mistake, file=sys.stderr)
        self.journal.attach()
        self.listener.register()
        self._words.listen()
        self.shell.input_transformers_cleanup.append(unwrap)
        tables = self.shell.magics_manager.magics
        self._magics_before = {kind: tables[kind].get("tfdiag", _ABSENT) for kind in ("line", "cell")}
        self.shell.register_magics(self._magics)
        completers = self.shell.strdispatchers.get("complete_command")
        self._completers_before = {key: getattr(completers, "strs", {}).get(key, _ABSENT) for key in COMPLETED}
        for key in COMPLETED:
            self.shell.set_hook("complete_command", complete, str_key=key)
        self.handover.open()
        self.shell.configurables.append(self.settings)  # where `%config` looks

    def remove(self) -> None:
        self.listener.unregister()
        self._words.stop()
        self.handover.close()
        self.shell.input_transformers_cleanup.remove(unwrap)
        manager = self.shell.magics_manager
        for kind, before in self._magics_before.items():
            _put_back(manager.magics[kind], "tfdiag", before)
        manager.registry.pop(TfdiagMagics.__name__, None)
        if self._magics in self.shell.configurables:  # where every Magics puts itself
            self.shell.configurables.remove(self._magics)
        if self.settings in self.shell.configurables:
            self.shell.configurables.remove(self.settings)
        for key, before in self._completers_before.items():
            _put_back(self.shell.strdispatchers["complete_command"].strs, key, before)
        self.journal.detach()

    def engine(self) -> Engine:
        """The engine with the rules of this process and the person's settings; the rules are loaded on the first call."""
        from tfdiag_ipython.api import registry
        from tfdiag_ipython.engine import Engine

        return Engine(registry(), ignored=frozenset(self.settings.ignored))

    def warm_up(self) -> None:
        """Load the rules beside the program, once, when a cell has ended: the first failing cell should not wait for them."""
        if not self._warm:
            self._warm = True
            threading.Thread(target=_load_rules, name="tfdiag-rules", daemon=True).start()

    def begin(self, source: str, identity: str) -> None:
        """A cell of the person's begins."""
        if self._pending:
            from tfdiag_ipython.probe import Cell

            for pending in self._pending:
                pending.begin(Cell(0, source, identity))
        if self.undoable is not None:
            self.undoable.forget()
            self.undoable = None

    def scene(
        self,
        exception: BaseException | None,
        cell: Cell | None,
        host: Host | None,
        *,
        seconds: float = 60.0,
        unseen: str = "",
    ) -> Scene:
        """The scene of this moment; whoever takes it closes it."""
        from tfdiag_ipython.probe import Scene

        return Scene(
            self.shell.user_ns,
            exception=exception,
            cells=cells_up_to(self.shell, self.listener.ids, cell, self.listener.unstored, self.listener.failed),
            host=host,
            live=True,
            cuda_dead=self.cuda_dead,
            seconds=seconds,
            unseen=unseen,
        )

    def on_failure(self, exception: BaseException, cell: Cell, seen: Mark) -> Failure:
        """Something went wrong in a cell of the person's: say what, if a rule knows."""
        from tfdiag_ipython.failure import Failure

        failure = self._words.added_to(Failure.from_exception(exception, source=cell.source, cell=cell.label))
        self.cuda_dead = self.cuda_dead or kills_cuda(failure)
        if not self.settings.enabled or failure.top.is_a("IPython.core.error.UsageError"):
            return failure  # nobody wants to hear of it, or it is a mistyped magic, which has said so itself
        try:
            self.diagnose(failure, exception, cell, seen)
        except BaseException:
            fault("A failure was not diagnosed.")
        return failure

    def diagnose(
        self,
        failure: Failure,
        exception: BaseException | None,
        cell: Cell | None,
        seen: Mark | None,
        known: dict[str, Evidence] | None = None,
        *,
        told: bool = False,
    ) -> ShellSession:
        """Diagnose a failure and show what was found; an unknown one is remembered, and nothing is shown.

        ``told`` says that the person has read it in full already: only the buttons are shown.
        """
        from tfdiag_ipython.shell.host import ShellHost
        from tfdiag_ipython.shell.session import ShellSession

        host = ShellHost(self, failure, seen)
        scene = self.scene(exception, cell, host, seconds=self.settings.budget)
        del exception
        try:
            found = self.engine().diagnose(failure, scene, known)[: self.settings.shown]
        finally:
            scene.close()
        self.last = ShellSession(self, failure, found, cell, seen)
        if found:
            self.diagnosed = self.last
            self.show(self.last, told=told, brief=self.settings.quiet and known is None)
        return self.last

    def show(self, session: ShellSession, *, told: bool = False, brief: bool = False) -> None:
        """The diagnosis as durable output (unless it was told), then its buttons; losing these loses no word of it.

        ``brief`` shows the answer alone, for whoever did not ask.
        """
        if not told:
            show_diagnoses(self.shell, session.diagnoses, brief=brief, name=session.name_for(brief))
        if brief or not self.settings.panel or not has_widgets(self.shell):
            return
        try:
            from tfdiag_ipython.render.panel import make_panel

            panel = make_panel(session)
            if panel is not None:
                publish(self.shell, panel.bundle)
                panel.displayed()
        except Exception:
            fault("The panel could not be shown.")

    @property
    def waits(self) -> bool:
        """Whether something is due when a cell has run: a check, or what the kernel before left to be told."""
        return bool(self._pending) or self.handover.waits

    def expect(self, failure: Failure, cells: Sequence[Cell], put: tuple[Plan, ShellSession] | None = None) -> None:
        """Say under one of these cells, when it runs next, whether this failure is gone; ``put`` is what that run can undo."""
        self._pending = [*self._pending, Pending(failure, cells, put)][-PENDING_KEPT:]

    def withdraw(self, plan: Plan) -> None:
        """Forget the check of a plan that the notebook's text does not hold after all."""
        self._pending = [pending for pending in self._pending if not pending.is_of(plan)]

    def on_settled(self, cell: Cell, failure: Failure | None) -> None:
        """A cell has ended: settle the checks that were waiting for it."""
        from tfdiag_ipython.fix import compare

        self.handover.tell()
        due = [pending for pending in self._pending if pending.is_about(cell)]
        if not due:
            return
        label = f"{cell.label[0].upper()}{cell.label[1:]}"
        if failure is not None and failure.top.is_a("KeyboardInterrupt"):
            show_line(self.shell, f"tfdiag: Pending: you stopped {cell.label}. Run it again; I will check it then.")
            return
        self._pending = [pending for pending in self._pending if pending not in due]
        if failure is None:
            self._settled(f"tfdiag: Verified: {label} ran without an error.", due[-1])
            return
        outcome = compare(due[-1].failure, failure, cell)
        told = "Still failing" if outcome.status is Status.STILL_FAILING else "Another failure"
        self._settled(f"tfdiag: {told}: {outcome.detail}", due[-1])

    def _settled(self, told: str, pending: Pending) -> None:
        """How a fix ended; one that the notebook's text holds can be taken back until another cell runs."""
        ready = pending.undoable()
        if ready is None or not self.settings.panel or not has_widgets(self.shell):
            show_line(self.shell, told)
            return
        plan, session = ready
        self.undoable = plan
        try:
            from tfdiag_ipython.render.html import render_line
            from tfdiag_ipython.render.panel import make_undo

            publish(self.shell, {"text/html": render_line(told), "text/plain": told})
            publish(self.shell, make_undo(plan, session.on_main_thread).bundle)
        except Exception:
            fault("Undo could not be offered.")

    def on_observed(self, observation: Observation, found: list[Failure], cell: Cell, *, failed: bool) -> None:
        """A cell under ``%%tfdiag`` has ended: diagnose what the watches found, else say what was watched."""
        from dataclasses import replace

        unknown = 0
        for finding in found:
            located = replace(finding, source=cell.source, cell=cell.label)
            unknown += not self.diagnose(located, None, cell, None).diagnoses
        if failed or len(found) > unknown or observation.options.quiet:
            return
        many = "one warning" if unknown == 1 else f"{unknown} warnings"
        result = f"{many}, of which no rule knows anything" if unknown else "nothing to report"
        show_line(self.shell, f"tfdiag watched {observation.watched} in {cell.label}: {result}.")

    def reject(self, session: ShellSession, code: str) -> str:
        """A person says that this diagnosis is wrong: its rule stays silent from now on; the redacted report to send."""
        self.settings.ignored = {*self.settings.ignored, code}
        report = self.report(session, wrong=code)
        try:
            self._hide(session, code)
        except Exception:
            fault("A diagnosis that was called wrong is still shown.")
        return report

    def _hide(self, session: ShellSession, code: str) -> None:
        """Take a guess that was called wrong out of the session, and out of the notebook's outputs."""
        from tfdiag_ipython.render.html import render_line

        session.diagnoses = [diagnosis for diagnosis in session.diagnoses if diagnosis.code != code]
        if not session.diagnoses and self.diagnosed is session:
            self.diagnosed = None
        for name, brief in session.shown if in_kernel(self.shell) else ():
            if session.diagnoses:
                show_diagnoses(self.shell, session.diagnoses, brief=brief, name=name, again=True)
            else:
                told = f"tfdiag: you called {code} wrong here."
                publish(self.shell, {"text/html": render_line(told), "text/plain": told}, name=name, again=True)

    def report(self, session: ShellSession | None, *, wrong: str = "") -> str:
        """The redacted report of a failure, or of none; ``wrong`` is the code of a diagnosis that the person calls wrong."""
        from tfdiag_ipython.report import build_report

        diagnoses: Sequence[Diagnosis] = session.diagnoses if session is not None else ()
        failure = session.failure if session is not None else None
        return build_report(diagnoses, failure, versions(), self.journal.entries, wrong=wrong)


def versions() -> dict[str, str]:
    """What a reader of a report wants to know about this place."""
    import importlib.metadata
    import platform

    from tfdiag_ipython import __version__

    found = {
        "tfdiag": __version__,
        "Python": platform.python_version(),
        "system": f"{sys.platform} {platform.machine()}",
    }
    for name in ("ipython", "ipykernel", "ipywidgets"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _put_back(table: dict[str, Any], key: str, before: object) -> None:
    if before is _ABSENT:
        table.pop(key, None)
    else:
        table[key] = before
