"""What the shell knows of the program: the cells that were run, and the newest exception, without keeping it."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdiag_ipython.failure import Failure
    from tfdiag_ipython.probe import Cell

MARK = "_tfdiag_seen"
"""Attribute of an exception that tfdiag has seen."""
LATER = "not looked at: a later cell failed"
RELEASED = "not looked at: what the failed cell held was released"
_OWN = re.compile(r"\s*(?:%tfdiag\b|%(?:re|un)?load_ext\s+tfdiag(?:_ipython)?\s*$|#|$)")
_DEAD_CONTEXT = re.compile(
    r"device-side assert|illegal memory access|unspecified launch failure|misaligned address|illegal instruction|"
    r"hardware stack error|uncorrectable ECC error",
    re.IGNORECASE,
)


class Mark:
    """Says of an exception that it was seen with this traceback; raised anew, it has grown another one."""

    def __init__(self, trace: int) -> None:
        self.trace = trace


class Released(Exception):
    """Stands in ``sys.last_value`` for a failed cell's exception whose memory was released: it prints the same."""


def newest_exception() -> BaseException | None:
    """The exception that IPython showed last."""
    value = getattr(sys, "last_value", None) or getattr(sys, "last_exc", None)
    return value if isinstance(value, BaseException) else None


def mark(exception: BaseException) -> Mark:
    """Mark an exception as seen; returns the mark, which is the exception's identity without holding it."""
    seen = Mark(id(exception.__traceback__))
    put(exception, seen)
    return seen


def put(exception: BaseException, seen: Mark) -> None:
    """Give this mark to an exception (classes that forbid attributes are passed by)."""
    seen.trace = id(exception.__traceback__)
    BaseException.__setattr__(exception, MARK, seen)


def mark_of(exception: BaseException) -> Mark | None:
    try:
        found = BaseException.__getattribute__(exception, MARK)
    except AttributeError:
        return None
    return found if isinstance(found, Mark) else None


def is_new(exception: BaseException) -> bool:
    """Whether nobody has marked it, or it was raised again since."""
    seen = mark_of(exception)
    return not isinstance(exception, Released) and (seen is None or seen.trace != id(exception.__traceback__))


def still(seen: Mark | None) -> tuple[BaseException | None, str]:
    """The exception with this mark while IPython still has it, else why it is gone."""
    newest = newest_exception()
    if seen is None:  # a finding: nothing was raised
        return None, ""
    if newest is not None and mark_of(newest) is seen:
        return newest, ""
    return None, RELEASED if newest is None or isinstance(newest, Released) else LATER


def kills_cuda(failure: Failure) -> bool:
    """Whether this failure leaves the process without a usable CUDA context; where none is in use, none can die."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    return any(
        raised.is_a("RuntimeError", "AcceleratorError") and _DEAD_CONTEXT.search(raised.message)
        for raised in failure.chain
    )


def history(
    shell: Any, ids: Mapping[int, str], unstored: Sequence[str] = (), failed: Collection[int] = ()
) -> list[Cell]:
    """The cells in the execution history, oldest first, without those that only talk to tfdiag; ``unstored`` where it is empty."""
    from tfdiag_ipython.probe import Cell

    manager = getattr(shell, "history_manager", None)
    inputs = list(getattr(manager, "input_hist_raw", ()) or ())
    if len(inputs) <= 1:
        inputs = ["", *unstored]
    return [
        Cell(number, source, ids.get(number, ""), failed=number in failed)
        for number, source in enumerate(inputs)
        if number and isinstance(source, str) and not all(_OWN.match(line) for line in source.splitlines())
    ]


def cells_up_to(
    shell: Any,
    ids: Mapping[int, str],
    failing: Cell | None,
    unstored: Sequence[str] = (),
    failed: Collection[int] = (),
) -> list[Cell]:
    """The history up to the failing cell, which stands last even when it is not in the history.

    Of what was run since, only newer versions of those cells count: the program now has what they left. Where a front end gives
    its cells no ids, or the person writes a new cell, these are the cells that bind what the failing one depends on.
    """
    cells = history(shell, ids, unstored, failed)
    if failing is None:
        return cells
    before = [cell for cell in cells if not failing.number or cell.number < failing.number]
    since = [cell for cell in cells if failing.number and cell.number > failing.number]
    return [*before, *_newer(before, since, failing), failing]


def _newer(before: Sequence[Cell], since: Sequence[Cell], failing: Cell) -> list[Cell]:
    """Those of the cells that were run since which are newer versions of earlier ones, by their id or by what they give the failing cell."""
    if not since:
        return []
    from tfdiag_ipython.fixes.names import feeding

    known = {cell.id for cell in before if cell.id} - {failing.id}
    well = [cell for cell in since if not cell.failed and (not failing.id or cell.id != failing.id)]
    gives = feeding([cell.source for cell in (*before, *well, failing)], None)[len(before) : -1]
    feeds = {cell.number for cell, statements in zip(well, gives, strict=True) if statements}
    return [cell for cell in since if cell.id in known or cell.number in feeds]
