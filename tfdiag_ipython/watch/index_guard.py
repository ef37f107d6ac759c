"""The index guard: indices are looked at before the call that uses them, so that a bad one raises an ``IndexError`` in Python.

On a GPU the same index would be a device-side assert: no value, no place, and no CUDA in this process any more. Calls inside modules,
losses and transformers' ``generate`` are looked at as well: see ``guarded_functions``.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from tfdiag_ipython.errors import InputError
from tfdiag_ipython.probes.index_checks import Check, Find, Place, checks
from tfdiag_ipython.watch.guarded_functions import GuardedFunctions, Watch
from tfdiag_ipython.watch.index_follow import Step, followers
from tfdiag_ipython.watch.index_ranges import Ranges, on_device, read

COMPILED = "what torch.compile compiled"
CAPTURED = "what a CUDA graph recorded"
TRACED = "what torch.jit traced"
SCRIPTED = "what TorchScript ran"
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
        self.ranges = Ranges()
        self.busy = False
        self._thread: int | None = None
        self._compiled = 0

    def __enter__(self) -> IndexGuard:
        try:
            import torch  # noqa: F401
        except ImportError:
            raise InputError("The index guard needs PyTorch, which is not installed here.") from None
        functions = _functions()
        if threading.get_ident() not in functions.active:
            self._compiled = _frames_compiled()
            self._thread = functions.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        if kind is None and self.unchecked:
            warnings.warn(f"tfdiag.guard did not check {self.left_out}.", GuardWarning, stacklevel=2)

    def leave(self) -> None:
        """End the guard."""
        thread, self._thread = self._thread, None
        if thread is not None:
            _functions().leave(thread)
            if _frames_compiled() > self._compiled:
                self.unchecked.add(COMPILED)

    @property
    def left_out(self) -> str:
        """What was not checked, in words; empty when everything was."""
        return " and ".join(sorted(self.unchecked))

    def replayed(self) -> None:
        """A CUDA graph writes into its tensors again, and none of them counts that."""
        self.unchecked.add(CAPTURED)
        self.ranges = Ranges()

    def look(self, name: str, find: Find, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise :class:`GuardedIndexError` for a call with an index that is out of range."""
        torch: Any = sys.modules["torch"]
        if torch._C._get_tracing_state() is not None:
            self.unchecked.add(TRACED)
            return
        error = None
        try:
            with _without_modes(torch):
                error = self._error(name, find(args, kwargs), torch)
        except Exception:  # a dead device, a tensor that holds no values: the call itself says what is wrong with it
            self.unchecked.add(UNREADABLE)
        if error is not None:
            raise error

    def _error(self, name: str, found: Iterable[Check], torch: Any) -> GuardedIndexError | None:
        for check in found:
            index = _plain(check.index, torch)
            if not isinstance(index, torch.Tensor) or index.is_meta or not index.numel():
                continue
            if index.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
                continue
            if type(index) not in (torch.Tensor, torch.nn.Parameter):
                self.unchecked.add(UNREADABLE)
                continue
            if index.is_cuda and torch.cuda.is_current_stream_capturing():
                self.unchecked.add(CAPTURED)
                continue
            self.checked += 1
            plain = replace(check, index=index)
            if not self._is_good(plain):
                return _error(name, plain)
        return None

    def _is_good(self, check: Check) -> bool:
        limits = check.low, check.high, check.ignore
        if not on_device(check.index):
            return _exactly(check, read(check.index).within(*limits))
        known = self.ranges.bounds(check.index)
        if known is not None and known.within(*limits):
            return True
        return _exactly(check, any(found.within(*limits) for found in self.ranges.measured(check.index)))


@functools.cache
def _functions() -> GuardedFunctions:
    import torch

    return GuardedFunctions(torch, functools.partial(_watched, torch))


def _watched(torch: Any) -> dict[Place, Watch]:
    """All places, with what is done there: indices are checked, their ranges followed, and what cannot be checked is noted."""

    def look(name: str, find: Find) -> Callable[..., None]:
        return lambda guard, args, kwargs: guard.look(name, find, args, kwargs)

    def left_out(what: str, when: Callable[..., bool] = lambda *_: True) -> Watch:
        return Watch(look=lambda guard, args, kwargs: guard.unchecked.add(what) if when(*args) else None)

    steps = followers(torch) if torch.backends.cuda.is_built() else {}  # in host memory a look is cheap
    table = checks(torch)
    found = {
        place: Watch(look(*table[place]) if place in table else None, *_around(steps.get(place)))
        for place in {**table, **steps}
    }
    found[torch.jit.RecursiveScriptModule, "__call__"] = left_out(SCRIPTED)
    compiler: Any = sys.modules.get("torch._dynamo.eval_frame")
    if hasattr(compiler, "_callback_from_stance"):  # it is asked whenever something compiled is called
        found[compiler, "_callback_from_stance"] = left_out(COMPILED, callable)
    if hasattr(torch.cuda, "CUDAGraph"):
        found[torch.cuda.CUDAGraph, "replay"] = Watch(look=lambda guard, args, kwargs: guard.replayed())
    return found


def _around(step: Step | None) -> tuple[Callable[..., Any] | None, Callable[..., None] | None]:
    if step is None:
        return None, None
    before, after = step.before, step.after
    return (
        (lambda guard, args, kwargs: before(guard.ranges, args)) if before is not None else None,
        lambda guard, result, args, kwargs, known: after(guard.ranges, result, args, kwargs, known),
    )


@contextlib.contextmanager
def _without_modes(torch: Any) -> Iterator[None]:
    """Whoever records or counts operations (``make_fx``, ``FlopCounterMode``) is not to see those of a look."""
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        with torch.utils._python_dispatch._disable_current_modes(), torch._C.DisableTorchFunction():
            yield
    else:
        yield


def _plain(index: Any, torch: Any) -> Any:
    """Inside ``torch.vmap`` and ``torch.func.grad`` a tensor stands for one row of another, or for another: that one's values are all of them."""
    functorch = getattr(torch._C, "_functorch", None)
    while functorch is not None and isinstance(index, torch.Tensor) and functorch.is_functorch_wrapped_tensor(index):
        index = functorch.get_unwrapped(index)
    return index


def _exactly(check: Check, within: bool) -> bool:
    """A range knows one ignored value only; another one is looked for where the range alone says no."""
    return within or (check.ignore is not None and not bool(_wrong(check).any()))


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


def _frames_compiled() -> int:
    """What torch.compile has counted in this process: frames that it looked at, and (all that ``fullgraph`` counts) graphs that it made."""
    utilities: Any = sys.modules.get("torch._dynamo.utils")
    counters = getattr(utilities, "counters", {})
    pairs = (("frames", "total"), ("stats", "unique_graphs"))
    return sum(int(counters[one][other]) for one, other in pairs if one in counters)
