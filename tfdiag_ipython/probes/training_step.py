"""One step of a model on a batch of any size, as a training loop makes it: forward, backward and, with an optimizer, its ``step``.

Or the forward pass alone, without gradients. What a step changes is put back by who has it made
(:mod:`~tfdiag_ipython.probes.training_state`).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from tfdiag_ipython.fixes.memory import clear_traceback
from tfdiag_ipython.probes.batch_rows import Rows
from tfdiag_ipython.probes.memory_refusals import words
from tfdiag_ipython.probes.peak_memory import meter_for

DEEPEST = 4
"""How deep tensors in structures of outputs or inputs are looked for."""
_DISTRIBUTED = {"DistributedDataParallel", "FullyShardedDataParallel", "DeepSpeedEngine"}


class NoStep(LookupError):
    """No step can be made so; says why in a sentence."""


@contextlib.contextmanager
def reading(what: str, remedy: str) -> Iterator[None]:
    """What the person's own objects raise while they are looked at becomes a sentence."""
    try:
        yield
        return
    except Exception as error:
        if type(error) in (LookupError, NoStep):
            raise
        told = words(error)
        clear_traceback(error)
    raise NoStep(f"{what} cannot be read ({told}): {remedy}")


@dataclass(frozen=True)
class Work:
    """What one step does. ``accumulate``: gradients of an earlier batch are in memory all the while; ``autocast``: a dtype or ``None``."""

    gradients: bool = True
    optimizer: Any = None
    accumulate: bool = False
    autocast: Any = None

    @property
    def told(self) -> str:
        if not self.gradients:
            return "forward, without gradients"
        parts = ["forward", "backward"] + (
            [f"{type(self.optimizer).__name__}.step"] if self.optimizer is not None else []
        )
        extra = [", accumulating gradients"] if self.accumulate else []
        extra += [f", autocast to {str(self.autocast).removeprefix('torch.')}"] if self.autocast is not None else []
        return f"{', '.join(parts)}{''.join(extra)}"


class Step:
    """Steps of one model; ``made`` counts them, ``stood_in`` says that the outputs held no loss."""

    def __init__(self, torch: Any, model: Any, rows: Rows, work: Work, device: Any) -> None:
        self._torch, self._model, self._rows, self._work, self._device = torch, model, rows, work, device
        self._kept = {id(one) for one in model.parameters() if one.grad is not None}
        self.made = 0
        self.stood_in = False

    @property
    def keeps_gradients(self) -> bool:
        """Whether gradients of an earlier step of the person's are in memory."""
        return bool(self._kept)

    def prepare(self) -> None:
        """Training mode, or eval mode for inference; gradients of an earlier batch where they are to be in memory."""
        if not self._work.gradients or not self._model.training:
            for module in list(self._model.modules()):
                module.training = self._work.gradients
        if self._work.accumulate:
            for one in self._model.parameters():
                if one.requires_grad and one.grad is None:
                    one.grad = self._torch.zeros_like(one)

    def make(self, rows: int, next_phase: Callable[[], None]) -> None:
        torch, work = self._torch, self._work
        self.made += 1
        arguments, named = self._rows.made(rows, self._device)
        gradients = torch.enable_grad() if work.gradients else torch.no_grad()
        cast: Any = (
            torch.autocast(self._device.type, work.autocast) if work.autocast is not None else contextlib.nullcontext()
        )
        with gradients:
            with cast:
                outputs = self._model(*arguments, **named)
                loss = self._loss(outputs) if work.gradients else None
            next_phase()
            if loss is not None:
                loss.backward()
            next_phase()
            if work.optimizer is not None:
                work.optimizer.step()

    def drop_gradients(self) -> None:
        """As ``optimizer.zero_grad()`` does; gradients that the person had stay where they are."""
        if not self._work.accumulate:
            for one in self._model.parameters():
                if id(one) not in self._kept:
                    one.grad = None

    def held(self) -> int:
        """Bytes of parameters, buffers, gradients and the optimizer's state, each storage once."""
        known: dict[int, int] = {}
        parameters = list(self._model.parameters())
        state = list(tensors_in(self._torch, dict(getattr(self._work.optimizer, "state", {}))))
        for one in [*parameters, *(p.grad for p in parameters if p.grad is not None), *self._model.buffers(), *state]:
            storage = one.untyped_storage()
            known[storage._cdata] = storage.nbytes()
        return sum(known.values())

    def _loss(self, outputs: Any) -> Any:
        torch = self._torch
        loss: Any = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if issubclass(type(loss), torch.Tensor) and loss.requires_grad:
            return loss if loss.dim() == 0 else loss.mean()
        found = [one for one in tensors_in(torch, outputs) if one.requires_grad and one.is_floating_point()]
        if not found:
            raise NoStep("nothing in the model's outputs can be trained on: for inference say `--no-grad`")
        if found[0].dim() == 0:
            return found[0]
        self.stood_in = True
        return found[0].float().sum()


def device_of(torch: Any, model: Any) -> Any:
    """The one device of the model's parameters; raises ``LookupError`` where a step cannot be tried."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if "DataParallel" in kinds:
        raise NoStep(
            "DataParallel gives each device a part of a batch: name the model inside it (its `.module`), for one device"
        )
    if kinds & _DISTRIBUTED or (distributed and torch.distributed.get_world_size() > 1):
        raise NoStep(
            "the model is trained by several processes or devices together: a step of this one alone would wait for them"
        )
    values = [*model.named_parameters(), *model.named_buffers()]
    unmade = next((name for name, one in values if torch.nn.parameter.is_lazy(one)), None)
    if unmade is not None:
        raise NoStep(
            f"`{unmade}` of the model gets its shape from the first batch: run the model on one, then ask again"
        )
    devices = {one.device for _, one in values} or {torch.device("cpu")}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise NoStep(f"the model is spread over {names}: only a model on one device can be tried")
    device = devices.pop()
    if device.type == "meta":
        raise NoStep("the model's weights are on `meta`: they have no values yet, so that no step can run")
    meter_for(torch, device)
    return device


def check_optimizer(optimizer: Any) -> None:
    """Raises ``LookupError`` for an optimizer whose step cannot be made without the person's own loop."""
    try:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
    except (TypeError, ValueError):
        return
    if closure is not None and closure.default is closure.empty:
        raise NoStep(
            f"`{type(optimizer).__name__}.step` takes a closure, which only your own loop has: leave `--optimizer` out, and count "
            "what it keeps on top"
        )


def tensors_in(torch: Any, value: Any, depth: int = DEEPEST) -> Iterator[Any]:
    """The tensors in a structure of inputs or outputs: dictionaries, tuples, lists and dataclasses."""
    if issubclass(type(value), torch.Tensor):
        yield value
    elif depth:
        parts: Any = ()
        if isinstance(value, Mapping):
            parts = value.values()
        elif isinstance(value, (tuple, list)):
            parts = value
        elif is_dataclass(value) and not isinstance(value, type):
            parts = [getattr(value, field.name, None) for field in fields(value)]
        for part in parts:
            yield from tensors_in(torch, part, depth - 1)
