"""The calls of modules in a traceback, from the outermost inwards, with what each was given. Nothing is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tfdiag_ipython.failure import CELL_FILE
from tfdiag_ipython.probe import Scene

MOST_MODULES = 20_000


@dataclass(frozen=True)
class ModuleCall:
    """One call: the module, its arguments, and the frame of its caller. ``generates``: it is a call of ``generate``."""

    module: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    caller: TracebackType | None
    generates: bool = False

    @property
    def own(self) -> bool:
        """Whether a cell makes the call."""
        return self.caller is not None and in_cell(self.caller)


def in_cell(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith("<cell") or CELL_FILE.match(file) is not None


def innermost_cell(exception: BaseException | None) -> TracebackType | None:
    """The innermost frame of a cell in the traceback."""
    return next((trace for trace in reversed(_frames(exception)) if in_cell(trace)), None)


def last(exception: BaseException | None) -> TracebackType | None:
    """The frame that raised."""
    return next(reversed(_frames(exception)), None)


def _frames(exception: BaseException | None) -> list[TracebackType]:
    frames = []
    trace = exception.__traceback__ if exception is not None else None
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def in_failing_cell(trace: TracebackType | None, exception: BaseException | None) -> bool:
    """Whether this frame of the traceback stands in the cell that was run, not in a function that an earlier one made."""
    outermost = next((one for one in _frames(exception) if in_cell(one)), None)
    if trace is None or outermost is None:
        return False
    return trace.tb_frame.f_code.co_filename == outermost.tb_frame.f_code.co_filename


def module_calls(exception: BaseException | None, torch: Any) -> Iterator[ModuleCall]:
    """The calls on the way down to where it was raised; a call of ``generate`` comes before those within."""
    caller: TracebackType | None = None
    trace = exception.__traceback__ if exception is not None else None
    while trace is not None:
        code, names = trace.tb_frame.f_code, trace.tb_frame.f_locals
        file = code.co_filename.replace("\\", "/")
        args, kwargs = names.get("args"), names.get("kwargs")
        generates = (
            file.endswith("torch/utils/_contextlib.py") and getattr(names.get("func"), "__name__", "") == "generate"
        )
        if type(args) is not tuple or type(kwargs) is not dict:
            pass
        elif file.endswith("torch/nn/modules/module.py") and code.co_name.endswith("_call_impl"):
            inner = caller is not None and caller.tb_frame.f_code.co_name == "_wrapped_call_impl"
            if isinstance(names.get("self"), torch.nn.Module) and not inner:
                yield ModuleCall(names["self"], args, kwargs, caller)
        elif generates and args and isinstance(args[0], torch.nn.Module):
            yield ModuleCall(args[0], args[1:], kwargs, caller, generates=True)
        caller, trace = trace, trace.tb_next


def path_in(outer: Any, inner: Any) -> str:
    """The dotted path of a module in another; empty where it is not in it, or is it."""
    named = itertools.islice(outer.named_modules(), MOST_MODULES)
    return next((path for path, module in named if module is inner), "")


def name_of(value: Any, scene: Scene) -> str:
    """The notebook's name for an object; empty where it has none, and for None, for which many may stand."""
    if value is None:
        return ""
    found = (name for name, one in list(scene.namespace.items()) if one is value and not name.startswith("_"))
    return next(found, "")
