"""The index guard: indices are looked at before the call that uses them, so that a bad one raises an ``IndexError`` in Python.

On a GPU the same index would be a device-side assert: no value, no place, and no CUDA in this process any more. PyTorch's function modes
(``torch.overrides.TorchFunctionMode``) hand over each call of its Python API, inside modules and transformers' ``generate`` as well.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from tfdiag_ipython.errors import InputError
from tfdiag_ipython.watch.index_checks import Check, Find, checks
from tfdiag_ipython.watch.index_ranges import Ranges, followers, read

COMPILED = "what torch.compile compiled"
CAPTURED = "what a CUDA graph recorded"
TRACED = "what torch.jit traced"
UNREADABLE = "an index that could not be read"


class GuardedIndexError(IndexError):
    """An index that would have been out of range; ``facts`` holds plain values about it."""

    def __init__(self, message: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})


class GuardWarning(UserWarning):
    """The guard could not look at some calls."""


class IndexGuard:
    """``with guard():`` checks indices in this thread. After it, ``checked`` counts them and ``unchecked`` says what was left out.

    Raises ``InputError`` where torch is not installed. Inside another guard it does nothing.
    """

    def __init__(self) -> None:
        self.checked = 0
        self.unchecked: set[str] = set()
        self._mode: Any = None
        self._compiled = 0

    def __enter__(self) -> IndexGuard:
        try:
            import torch
        except ImportError:
            raise InputError("The index guard needs PyTorch, which is not installed here.") from None
        if not any(isinstance(mode, _mode_class()) for mode in _modes(torch)):
            self._compiled = _frames_compiled()
            self._mode = _mode_class()(self)
            self._mode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        if kind is None and self.unchecked:
            warnings.warn(f"tfdiag.guard did not check {self.left_out}.", GuardWarning, stacklevel=2)

    def leave(self) -> None:
        """End the guard, also where a mode that was entered later has not ended."""
        mode, self._mode = self._mode, None
        if mode is not None:
            _remove(mode)
            if _frames_compiled() > self._compiled:
                self.unchecked.add(COMPILED)

    @property
    def left_out(self) -> str:
        """What was not checked, in words; empty when everything was."""
        return " and ".join(sorted(self.unchecked))


@functools.cache
def _mode_class() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    table = checks(torch)
    follows = followers(torch) if torch.backends.cuda.is_built() else {}  # in host memory a look is cheap
    integers = frozenset((torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8))
    plain = (torch.Tensor, torch.nn.Parameter)

    class Mode(TorchFunctionMode):  # type: ignore[misc]
        def __init__(self, guard: IndexGuard) -> None:
            super().__init__()
            self.guard = guard
            self.ranges = Ranges()

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            found = table.get(func)
            if found is not None and not torch.compiler.is_compiling():
                self._check(found, args, kwargs)
            result = func(*args, **kwargs)
            follow = follows.get(func)
            if follow is not None and not torch.compiler.is_compiling():
                with contextlib.suppress(Exception):
                    follow(self.ranges, result, args, kwargs)
            return result

        def _check(self, found: tuple[str, Find], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            name, find = found
            if torch._C._get_tracing_state() is not None:
                self.guard.unchecked.add(TRACED)
                return
            wrong = None
            try:
                for check in find(args, kwargs):
                    index = check.index
                    if type(index) not in plain or index.dtype not in integers or index.is_meta or not index.numel():
                        continue
                    if index.is_cuda and torch.cuda.is_current_stream_capturing():
                        self.guard.unchecked.add(CAPTURED)
                        continue
                    self.guard.checked += 1
                    if not self._is_good(check):
                        wrong = check
                        break
            except Exception:  # a dead device, a value inside `vmap`: the call itself says what is wrong with it
                self.guard.unchecked.add(UNREADABLE)
                return
            if wrong is not None:
                raise _error(name, wrong)

        def _is_good(self, check: Check) -> bool:
            limits = check.low, check.high, check.ignore
            if check.index.device.type == "cpu":
                return self._exactly(check, read(check.index).within(*limits))
            known = self.ranges.bounds(check.index)
            if known is not None and known.within(*limits):
                return True
            return self._exactly(check, self.ranges.measured(check.index).within(*limits))

        def _exactly(self, check: Check, within: bool) -> bool:
            """A range knows one ignored value only; another one is looked for where the range alone says no."""
            return within or (check.ignore is not None and not bool(_wrong(check).any()))

    return Mode


def _wrong(check: Check) -> Any:
    wrong = (check.index < check.low) | (check.index > check.high)
    return wrong if check.ignore is None else wrong & (check.index != check.ignore)


def _error(name: str, check: Check) -> GuardedIndexError:
    import torch

    with torch.no_grad():
        wrong = _wrong(check)
        places = wrong.nonzero()
        place = tuple(places[0].tolist())
        value = int(check.index[place])
        kept = check.index if check.ignore is None else check.index[check.index != check.ignore]
        facts = {
            "operation": name,
            "argument": check.argument,
            "low": check.low,
            "high": check.high,
            "limit": check.limit,
            "ignore": check.ignore,
            "device": str(check.index.device),
            "values": {
                "smallest": int(kept.min()),
                "largest": int(kept.max()),
                "first": value,
                "place": place,
                "count": int(places.shape[0]),
                "total": int(kept.numel()),
            },
        }
    where = _module()
    at = f"[{', '.join(map(str, place))}]" if place else ""
    allowed = f" ({check.low:,} to {check.high:,}{', or the ignored ' + str(check.ignore) if check.ignore is not None else ''})"
    allowed = "" if check.high == sys.maxsize else allowed
    message = f"tfdiag.guard stopped {name}{where}: `{check.argument}{at}` is {value}, and {check.limit}{allowed}."
    return GuardedIndexError(message, facts)


def _module() -> str:
    """The module in which the call stands, by its name in the outermost one."""
    import torch

    inner = outer = None
    frame = sys._getframe(1)
    while frame is not None:
        this = frame.f_locals.get("self") if frame.f_code.co_name in {"forward", "_call_impl"} else None
        if this is not None and issubclass(type(this), torch.nn.Module):
            inner, outer = inner if inner is not None else this, this
        frame = frame.f_back  # type: ignore[assignment]
    if inner is None or outer is None:
        return ""
    name = next((name for name, module in outer.named_modules() if module is inner), "")
    return f" in `{name}` of {type(outer).__name__}" if name else f" in {type(inner).__name__}"


def _modes(torch: Any) -> Iterator[Any]:
    overrides = torch.overrides
    return iter(overrides._get_current_function_mode_stack())


def _remove(mode: Any) -> None:
    """Take one mode out of the stack, whatever was put above it since."""
    import torch

    overrides: Any = torch.overrides
    above = []
    while overrides._len_torch_function_stack():
        top = overrides._pop_mode()
        if top is mode:
            break
        above.append(top)
    for one in reversed(above):
        overrides._push_mode(one)


def _frames_compiled() -> int:
    """How many frames torch.compile has looked at in this process."""
    utilities: Any = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utilities, "counters", {})
    return int(counters["frames"]["total"]) if "frames" in counters else 0
