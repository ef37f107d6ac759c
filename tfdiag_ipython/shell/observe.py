"""``%%tfdiag``: its first line becomes a comment, so that the cell it wraps runs exactly as it would without it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser
from IPython.utils.process import arg_split

from tfdiag_ipython.shell.journal import fault

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.probe import Scene
    from tfdiag_ipython.watch import Watcher

_HEAD = re.compile(r"%%tfdiag(?:[ \t]+(?P<options>.*))?\s*$")


@dataclass(frozen=True)
class Options:
    """What stands behind ``%%tfdiag``."""

    watch: tuple[str, ...]
    quiet: bool
    guard: bool = False


class Observation:
    """One cell under watch."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._watchers: list[Watcher] = []

    @property
    def watched(self) -> str:
        """What was watched, in words."""
        *others, last = ["exceptions", *(watcher.watched for watcher in self._watchers)]
        return f"{', '.join(others)} and {last}" if others else last

    def begin(self) -> None:
        from tfdiag_ipython.watch import GUARD, WATCHERS

        kinds = [*(WATCHERS[name] for name in self.options.watch), *([GUARD] if self.options.guard else [])]
        for kind in kinds:
            try:
                watcher = kind()
                watcher.start()
            except BaseException:
                fault("The watch %s did not start.", kind.__name__)
            else:
                self._watchers.append(watcher)

    def end(self, scene: Scene) -> list[Failure]:
        """Stop every watch, whatever becomes of the others, and hand on what they found."""
        found: list[Failure] = []
        for watcher in reversed(self._watchers):
            try:
                found = [*watcher.stop(scene), *found]
            except BaseException:
                fault("The watch %s did not stop.", type(watcher).__name__)
        return [finding for finding in found if not any(watcher.answers(finding) for watcher in self._watchers)]


def observe(source: str, always: Collection[str] = ()) -> Observation | None:
    """Begin to watch a cell that starts with ``%%tfdiag`` and good options, or any cell where something is ``always`` watched."""
    lines = source.lstrip().splitlines()
    options = _options(lines[0]) if lines else None
    if always:
        watch = (*(options.watch if options is not None else ()), *always)
        guard = options is not None and options.guard
        options = Options(tuple(dict.fromkeys(watch)), options is None or options.quiet, guard)
    if options is None:
        return None
    observation = Observation(options)
    observation.begin()
    return observation


def parser() -> MagicArgumentParser:
    """The options of ``%%tfdiag``."""
    from tfdiag_ipython.watch import WATCHERS

    made = MagicArgumentParser(prog="%%tfdiag")
    made.add_argument(
        "-w",
        "--watch",
        action="append",
        metavar="NAME",
        help=f"what to watch besides exceptions: {', '.join(WATCHERS)}",
    )
    made.add_argument("-g", "--guard", action="store_true", help="stop a bad index before the call that uses it")
    made.add_argument("-q", "--quiet", action="store_true", help="say nothing after a clean cell")
    return made


def parse_options(line: str) -> Options:
    """Read the options; raises ``UsageError`` with one sentence."""
    from tfdiag_ipython.watch import WATCHERS

    try:
        known, rest = parser().parse_known_args(arg_split(line))
    except ValueError as error:  # a quote that is not closed
        raise UsageError(f"The options of %%tfdiag cannot be read: {error}.") from None
    if rest:
        words = ["--watch", "--guard", "--quiet"]
        near = difflib.get_close_matches(rest[0], words, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(words)}."
        raise UsageError(f"%%tfdiag has no option {rest[0]!r}. {hint}")
    names = [name for entry in known.watch or WATCHERS for name in entry.split(",") if name]
    for name in names:
        if name not in WATCHERS:
            near = difflib.get_close_matches(name, WATCHERS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There is {', '.join(WATCHERS)}."
            raise UsageError(f"%%tfdiag cannot watch {name!r}. {hint}")
    return Options(tuple(dict.fromkeys(names)), known.quiet, known.guard)


def unwrap(lines: list[str]) -> list[str]:
    """The input transformer: the cell without ``%%tfdiag``, its line numbers kept.

    A second cell magic must come first, as it would without ``%%tfdiag``. With options that cannot be read, or nothing to run, the
    cell stays as it is: IPython then calls the magic, which says what is wrong, and runs nothing.
    """
    rest = lines[1:]
    if not lines or _options(lines[0]) is None or not any(line.strip() for line in rest):
        return lines
    first = next(index for index, line in enumerate(rest) if line.strip())
    if rest[first].startswith("%%"):
        return unwrap(rest[first:])
    return [f"# {lines[0]}", *rest]


def _options(line: str) -> Options | None:
    head = _HEAD.match(line)
    if head is None:
        return None
    try:
        return parse_options(head["options"] or "")
    except UsageError:
        return None
