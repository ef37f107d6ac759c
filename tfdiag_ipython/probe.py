"""Looking without touching: the live scene of a failure, the probes that look at it, and what they saw.

Optional libraries are looked up in ``sys.modules``, never imported: if torch is not loaded, torch did not raise.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.errors import BudgetSpent

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.fix import Host, Progress


@dataclass(frozen=True)
class Cell:
    """A cell that was run: its number in the execution history, its source as typed, the front end's id of it, and how long it ran.

    ``seconds`` is 0 where nobody took the time; ``failed`` says that it ended with an error.
    """

    number: int
    source: str
    id: str = ""
    seconds: float = field(default=0.0, compare=False)
    failed: bool = field(default=False, compare=False)

    @property
    def label(self) -> str:
        return f"cell {self.number}" if self.number else "this cell"


@dataclass(frozen=True)
class Evidence:
    """What a probe saw: ``facts`` for rules (plain data), ``seen`` for people; ``missing`` says why it could not look.

    A deep probe that finds something wrong says so in ``finding``, which is then diagnosed like any failure.
    """

    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    seen: tuple[Observation, ...] = ()
    missing: str = ""
    finding: Failure | None = None

    def __getitem__(self, key: str) -> Any:
        return self.facts[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.facts.get(key, default)

    def __bool__(self) -> bool:
        return bool(self.facts)


class Deadline:
    """The time that all quick probes of one diagnosis share; a probe calls ``check`` between its steps."""

    def __init__(self, seconds: float) -> None:
        self.until = time.perf_counter() + seconds

    @property
    def passed(self) -> bool:
        return time.perf_counter() > self.until

    @property
    def left(self) -> float:
        """Seconds; negative when it has passed."""
        return self.until - time.perf_counter()

    def check(self) -> None:
        if self.passed:
            raise BudgetSpent("The time for quick looks is used up.")


class LiveFrame:
    """A frame while the scene is open. Its locals are read on demand only: reading them has a price (see DESIGN.md)."""

    def __init__(self, frame: FrameType, line: int) -> None:
        self._frame = frame
        self.file = frame.f_code.co_filename
        self.function = frame.f_code.co_name
        self.line = line

    @property
    def locals(self) -> Mapping[str, Any]:
        return self._frame.f_locals

    @property
    def globals(self) -> Mapping[str, Any]:
        return self._frame.f_globals


class Scene:
    """The live surroundings of a failure, open only while somebody looks: close it and it holds nothing.

    ``frames`` are those of the exception that reached the top, then of its causes and of a group's members, each from the
    outermost call inwards. An empty scene (``Scene()``) stands for stored text.
    """

    def __init__(
        self,
        namespace: Mapping[str, Any] | None = None,
        *,
        exception: BaseException | None = None,
        cells: Sequence[Cell] = (),
        host: Host | None = None,
        live: bool = False,
        cuda_dead: bool = False,
        seconds: float = 60.0,
        unseen: str = "",
    ) -> None:
        self.namespace: Mapping[str, Any] = namespace if namespace is not None else {}
        self.cells = tuple(cells)
        self.host = host
        self.live = live or exception is not None or namespace is not None
        self.cuda_dead = cuda_dead
        self._seconds = seconds
        self._deadline: Deadline | None = None
        self.unseen = unseen
        self.progress: Progress | None = None  # whom a deep probe tells how far it is
        self._exception = exception

    @property
    def deadline(self) -> Deadline:
        """The time for quick looks; it runs from the first look on, not while rules are loaded and matched."""
        if self._deadline is None:
            self._deadline = Deadline(self._seconds)
        return self._deadline

    @property
    def exception(self) -> BaseException | None:
        """The live exception while the scene is open; never keep it."""
        return self._exception

    @property
    def cell(self) -> Cell | None:
        """The cell that failed, or the newest one."""
        return self.cells[-1] if self.cells else None

    @property
    def frames(self) -> Iterator[LiveFrame]:
        queue: list[BaseException | None] = [self._exception]
        done: set[int] = set()
        while queue:
            current = queue.pop(0)
            if current is None or id(current) in done or len(done) > 32:
                continue
            done.add(id(current))
            trace = current.__traceback__
            while trace is not None:
                yield LiveFrame(trace.tb_frame, trace.tb_lineno)
                trace = trace.tb_next
            queue += [current.__cause__, current.__context__]
            members = getattr(current, "exceptions", None)
            queue += [one for one in members if isinstance(one, BaseException)] if isinstance(members, tuple) else []

    def find_frames(self, *functions: str, file: str = "") -> list[LiveFrame]:
        """Frames of these functions in files whose path ends so (forward slashes), the innermost first."""
        return [
            frame
            for frame in reversed(list(self.frames))
            if (not functions or frame.function in functions) and frame.file.replace("\\", "/").endswith(file)
        ]

    def module(self, name: str) -> ModuleType | None:
        """A library that the program has loaded; ``None`` otherwise and for stored text."""
        return sys.modules.get(name) if self.live else None

    def close(self) -> None:
        """Let go of everything that could keep the user's objects alive."""
        self.namespace, self.cells, self.host, self._exception, self.live = {}, (), None, None, False


class Probe(ABC):
    """One side-effect-free look at the scene.

    ``deep`` probes run only on a click or by ``%tfdiag probe NAME``. A probe returns plain data; it never raises on purpose, and
    says in ``Evidence.missing`` why it could not look. ``usage`` is the line that ``%tfdiag probe`` prints for its arguments.
    """

    name: ClassVar[str]
    deep: ClassVar[bool] = False
    usage: ClassVar[str] = ""

    @abstractmethod
    def look(self, failure: Failure, scene: Scene) -> Evidence:
        """Look at the scene of this failure."""

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        """Look at what the person named (``%tfdiag probe NAME ARGUMENTS``); the default looks at the scene."""
        from tfdiag_ipython.failure import Failure, Raised

        return self.look(Failure("check", (Raised((self.name,), arguments),)), scene)
