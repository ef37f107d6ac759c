"""The hook: which cell runs, whether something went wrong in it, and never a word of its own about its own faults."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdiag_ipython.shell.journal import fault
from tfdiag_ipython.shell.observe import Observation, observe
from tfdiag_ipython.shell.scene import is_new, mark, newest_exception

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.probe import Cell
    from tfdiag_ipython.shell.extension import Extension

IDS_KEPT = 2_000


@dataclass
class _Running:
    """The cell that runs, from its start to its end; text only."""

    source: str
    id: str
    stored: bool
    start: float
    observation: Observation | None


class Listener:
    """Registered for ``pre_run_cell`` and ``post_run_cell``; looks at a failure once, after the outermost cell has ended."""

    def __init__(self, extension: Extension) -> None:
        self.extension = extension
        self.ids: dict[int, str] = {}
        self.unstored: list[str] = []
        """Cells run so far where nothing goes into the history, which is how nbval runs a notebook."""
        self.failed: set[int] = set()
        """The numbers of the cells that ended with an error."""
        self._depth = 0
        self._running: _Running | None = None
        self._deaf: int | None = None

    def register(self) -> None:
        events = self.extension.shell.events
        events.register("pre_run_cell", self.before)
        events.register("post_run_cell", self.after)
        self._ignore_earlier()

    def unregister(self) -> None:
        events = self.extension.shell.events
        events.unregister("pre_run_cell", self.before)
        events.unregister("post_run_cell", self.after)
        if self._running is not None and self._running.observation is not None:  # unloaded by the very cell it watches
            self._observed(self._running.observation, None)

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """Cells that run meanwhile in this thread are a button's: they are not looked at."""
        previous, self._deaf = self._deaf, threading.get_ident()
        try:
            yield
        finally:
            self._deaf = previous

    def before(self, info: Any) -> None:
        """``pre_run_cell``."""
        try:
            if self._deaf == threading.get_ident():
                return
            self._depth += 1
            if self._depth == 1:
                self._begin(info)
        except BaseException:  # whatever leaves a listener reaches the person as a second traceback
            fault("The start of a cell was not handled.")

    def after(self, result: Any) -> None:
        """``post_run_cell``."""
        try:
            if self._deaf == threading.get_ident() or _is_blank(result):
                return
            self._depth = max(0, self._depth - 1)
            if self._depth == 0:
                self._end(result)
        except BaseException:
            fault("The end of a cell was not handled.")

    def _begin(self, info: Any) -> None:
        self._ignore_earlier()
        source = info.raw_cell if isinstance(info.raw_cell, str) else ""
        identity = str(getattr(info, "cell_id", None) or self._id_from_kernel() or "")
        self.extension.begin(source, identity)
        self._running = _Running(source, identity, bool(info.store_history), time.perf_counter(), None)
        self.extension.handover.begin(source, bool(info.store_history))
        always = sorted(self.extension.settings.watch)
        if always or source.lstrip().startswith("%%tfdiag"):
            self._running.observation = observe(source, always)

    def _ignore_earlier(self) -> None:
        """What failed before this cell began (in a callback, say) is not this cell's failure."""
        earlier = newest_exception()
        if earlier is not None and is_new(earlier):
            mark(earlier)

    def _end(self, result: Any) -> None:
        running, self._running = self._running, None
        self.extension.handover.end(time.perf_counter() - running.start if running is not None else 0.0)
        observation = running.observation if running is not None else None
        exception = newest_exception()
        if exception is not None and not is_new(exception):
            exception = None
        number = self._number(running, result)
        if exception is None and observation is None and not self.extension.waits:
            self.extension.warm_up()
            return
        cell = _cell(running, result, number)
        findings = self._observed(observation, cell if exception is None else None)
        failure: Failure | None = None
        if exception is not None:
            seen = mark(exception)
            self.failed.add(number)
            failure = self.extension.on_failure(exception, cell, seen)
            del exception
        self.extension.on_settled(cell, failure)
        if observation is not None:
            self.extension.on_observed(observation, findings, cell, failed=failure is not None)

    def _observed(self, observation: Observation | None, cell: Cell | None) -> list[Failure]:
        """What the watches found; they look at the program only when a cell has ended well."""
        from tfdiag_ipython.probe import Scene

        if observation is None:
            return []
        seconds = self.extension.settings.patience
        scene = self.extension.scene(None, cell, None, seconds=seconds) if cell is not None else Scene()
        try:
            return observation.end(scene)
        finally:
            scene.close()

    def _number(self, running: _Running | None, result: Any) -> int:
        """The number under which the history, or what stands in for it, has the cell that has just ended; 0 when it has not."""
        inputs = getattr(getattr(self.extension.shell, "history_manager", None), "input_hist_raw", None) or [""]
        source = running.source if running is not None else _source(result)
        info = getattr(result, "info", None)
        if not (running.stored if running is not None else getattr(info, "store_history", True)):
            if len(inputs) > 1:
                return 0
            self.unstored.append(source)
            return len(self.unstored)
        number = len(inputs) - 1 if inputs[-1].rstrip("\n") == source.rstrip("\n") else 0
        if number and running is not None and running.id:
            self.ids[number] = running.id
            if len(self.ids) > IDS_KEPT:
                del self.ids[next(iter(self.ids))]
        return number

    def _id_from_kernel(self) -> object:
        """The front end's id of the cell, where IPython does not hand it on."""
        kernel = getattr(self.extension.shell, "kernel", None)
        if kernel is None:
            return None
        try:
            return kernel.get_parent("shell").get("metadata", {}).get("cellId")
        except Exception:  # kernels other than ipykernel have their own ways
            return None


def _cell(running: _Running | None, result: Any, number: int) -> Cell:
    from tfdiag_ipython.probe import Cell

    if running is not None:
        return Cell(number, running.source, running.id, time.perf_counter() - running.start)
    return Cell(number, _source(result))


def _source(result: Any) -> str:
    """The cell's source, where its start was not seen: tfdiag was loaded in it."""
    source = getattr(getattr(result, "info", None), "raw_cell", None)
    return source if isinstance(source, str) else ""


def _is_blank(result: Any) -> bool:
    """Whether this is the end of an empty cell, whose start is not announced."""
    return result is not None and not _source(result).strip()
