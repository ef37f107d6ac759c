"""Finds the largest batch that one step of a model has memory for: predicts from two small steps, then tries a few real ones.

A step is what a training loop does with one batch: forward, backward and, with an optimizer, its ``step``; or the forward pass alone, without
gradients. Everything that a step changes is put back as it was (:mod:`~tfdiag_ipython.probes.training_state`).
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from tfdiag_ipython.fixes.memory import clear_traceback
from tfdiag_ipython.probes.batch_rows import Rows
from tfdiag_ipython.probes.batch_search import SMALL, Trial, largest, next_rows, predict
from tfdiag_ipython.probes.memory_refusals import refusal, wanted, words
from tfdiag_ipython.probes.memory_room import Room, bounded, enforced, give_back, room_on
from tfdiag_ipython.probes.peak_memory import Reading, meter_for, telling
from tfdiag_ipython.probes.training_state import TrainingState
from tfdiag_ipython.sizes import memory_size

MOST_ROWS = 65_536
"""Rows beyond which nobody asks."""
MOST_SECONDS = 120.0
"""A trial that would take longer, going by those before it, is not made."""
_DISTRIBUTED = {"DistributedDataParallel", "FullyShardedDataParallel", "DeepSpeedEngine", "DataParallel"}


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


@dataclass(frozen=True)
class Fit:
    """What was found: plain numbers.

    ``rows``: the largest batch that ran (0 if none did); ``predicted``: rows that the small steps promised; ``room``: bytes that a step
    may take beyond ``held`` (parameters, buffers, gradients, optimizer state), and ``limit``, who says so; ``small`` and
    ``trials``: the steps that were really run; ``work`` and ``row``: what a step and a row were; ``notes``: sentences.
    """

    rows: int
    predicted: int
    room: int
    limit: str
    held: int
    small: tuple[Trial, ...]
    trials: tuple[Trial, ...]
    work: str
    row: str
    notes: tuple[str, ...] = ()

    @property
    def peak(self) -> int:
        """Bytes that the largest step took beyond ``held``."""
        return max((trial.peak for trial in (*self.small, *self.trials) if trial.rows == self.rows), default=0)


def find_fit(
    torch: Any,
    model: Any,
    inputs: Any,
    work: Work,
    *,
    memory: int | None = None,
    most: int = MOST_ROWS,
    dimension: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Fit:
    """The largest batch for this model and these inputs; ``memory``: bytes that held and step together may take.

    Raises ``LookupError`` with one sentence where that cannot be found out. The state is put back however it ends.
    """
    device = _device(torch, model)
    dimension = _rows_along(torch, model) if dimension is None else dimension
    rows = Rows(torch, inputs, model, dimension)
    state = TrainingState(torch, model, work.optimizer)
    tell(f"Copying the state, {memory_size(state.bytes)}, to put it back afterwards …")
    told = ""
    try:
        with state:
            return _Search(torch, model, rows, work, device, tell).run(memory, most)
    except Exception as error:
        if isinstance(error, LookupError) and type(error) is LookupError:
            raise
        told = words(error)
        clear_traceback(error)
    raise LookupError(f"a step of {SMALL[0]} rows fails by itself: {told}")


class _Search:
    def __init__(
        self, torch: Any, model: Any, rows: Rows, work: Work, device: Any, tell: Callable[[str], None]
    ) -> None:
        self._torch, self._model, self._rows, self._work, self._device = torch, model, rows, work, device
        self._tell = tell
        self._real: int | None = None
        self._moments: tuple[int, ...] = ()
        self._reading = Reading(())
        self._stood_in = False
        self._kept = {id(one) for one in model.parameters() if one.grad is not None}

    def run(self, memory: int | None, most: int) -> Fit:
        self._set_flags()
        if self._work.accumulate:
            self._fill_gradients()
        self._tell(f"A first step of {SMALL[0]} rows …")
        room = self._room(memory)
        warm = self._trial(SMALL[0], room, memory)  # makes what stays: the optimizer's state, the libraries' workspaces
        held, room = self._held(), self._room(memory)
        small = self._small(room, memory) if not warm.refused else [warm, self._trial(1, room, memory)]
        ran = [trial for trial in small if not trial.refused]
        predicted = largest(small, room.free, most) if len(ran) > 1 else max((trial.rows for trial in ran), default=0)
        trials: list[Trial] = []
        notes = list(self._rows.notes)
        while ran and (rows := next_rows(small, trials, room.free, most)) is not None:
            last = max((trial for trial in [*small, *trials] if not trial.refused), key=lambda trial: trial.rows)
            seconds = last.seconds * rows / last.rows
            if seconds > MOST_SECONDS:
                notes.append(
                    f"{rows:,} rows were predicted to fit, but a step of them would take about {seconds / 60:.0f} minutes"
                )
                break
            expected = memory_size(predict([*small, *trials], rows))
            self._tell(f"Trial {len(trials) + 1}: {rows:,} rows, predicted to take {expected} …")
            trials.append(self._trial(rows, room, memory))
        largest_run = max((trial.rows for trial in [*small, *trials] if not trial.refused), default=0)
        if largest_run == most:
            notes.append(f"more than {most:,} rows were not tried")
        if self._stood_in:
            notes.append(
                "the outputs hold no loss: the sum of the first one stood in for it (a loss of your own takes more)"
            )
        if self._kept:
            notes.append(
                "gradients of an earlier step are in memory, and were during each step: `model.zero_grad()` frees them"
            )
        return Fit(
            largest_run,
            predicted,
            room.free,
            room.told,
            held,
            tuple(small),
            tuple(trials),
            self._work.told,
            self._rows.told,
            tuple(notes),
        )

    def _small(self, room: Room, memory: int | None) -> list[Trial]:
        """The steps that predict; in hindsight they tell the moments that may be the peak of a larger one."""
        found, readings = [], []
        for rows in SMALL:
            self._tell(f"A step of {rows} rows, to predict …")
            found.append(self._trial(rows, room, memory))
            readings.append(self._reading)
            if found[-1].refused:
                return found
        self._moments = telling(readings[0], readings[1], SMALL[1] / SMALL[0])
        return [replace(one, peaks=self._peaks(reading)) for one, reading in zip(found, readings, strict=True)]

    def _peaks(self, reading: Reading) -> tuple[int, ...]:
        known = self._moments[-1] < len(reading.moments) if self._moments else False
        return reading.phases + (tuple(reading.moments[moment] for moment in self._moments) if known else ())

    def _trial(self, rows: int, room: Room, memory: int | None) -> Trial:
        """One real step. Errors other than a refusal of memory are raised for the smallest batch; for a larger one they bound it."""
        self._let_go()
        meter = meter_for(self._torch, self._device)
        refused, started = "", time.perf_counter()
        meter.start()
        try:
            with bounded(self._device, self._real):
                self._step(rows, meter.next_phase)
        except Exception as error:
            refused = refusal(error)
            if not refused and (rows <= SMALL[0] or not self._alive()):
                raise
            refused = refused or words(error)
            clear_traceback(error)
        finally:
            self._reading = meter.stop()
            self._drop_gradients()
        seconds = time.perf_counter() - started
        self._let_go()
        peaks = self._peaks(self._reading) if not refused else self._reading.phases
        over = max(peaks) > room.free and (memory is not None or not enforced(self._device))
        if over and not refused:
            refused = f"it took {memory_size(max(peaks))}"
        return Trial(rows, peaks, seconds, refused, wanted(refused))

    def _step(self, rows: int, next_phase: Callable[[], None]) -> None:
        torch, work = self._torch, self._work
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

    def _loss(self, outputs: Any) -> Any:
        torch = self._torch
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if loss is not None:
            return loss if loss.dim() == 0 else loss.mean()
        found = [one for one in _tensors(torch, outputs, 4) if one.requires_grad and one.is_floating_point()]
        if not found:
            raise LookupError("nothing in the model's outputs can be trained on: for inference say `--no-grad`")
        if found[0].dim() == 0:
            return found[0]
        self._stood_in = True
        return found[0].float().sum()

    def _set_flags(self) -> None:
        modules = list(self._model.modules())
        if not self._work.gradients or not self._model.training:
            for module in modules:
                module.training = self._work.gradients

    def _fill_gradients(self) -> None:
        for one in self._model.parameters():
            if one.requires_grad and one.grad is None:
                one.grad = self._torch.zeros_like(one)

    def _drop_gradients(self) -> None:
        """As ``optimizer.zero_grad()`` does; gradients that the person had stay where they are."""
        if not self._work.accumulate:
            for one in self._model.parameters():
                if id(one) not in self._kept:
                    one.grad = None

    def _let_go(self) -> None:
        """What is no longer used is given back, so that a step begins as the one before it did."""
        gc.collect()
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()
        else:
            give_back()

    def _alive(self) -> bool:
        """Whether CUDA still answers after an error."""
        if self._device.type != "cuda":
            return True
        try:
            self._torch.cuda.synchronize(self._device)
        except Exception:
            return False
        return True

    def _room(self, memory: int | None) -> Room:
        """What a step may take; what is really free bounds each trial also where the person allows less."""
        try:
            real = room_on(self._torch, self._device)
        except LookupError:
            if memory is None:
                raise
            real = None
        self._real = real.free if real is not None else None
        asked = None
        if memory is not None:
            asked = Room(max(memory - self._held(), 0), f"{memory_size(memory)}, as you said, less what is held")
        return min((room for room in (asked, real) if room is not None), key=lambda room: room.free)

    def _held(self) -> int:
        """Bytes of parameters, buffers, gradients and the optimizer's state, each storage once."""
        known: dict[int, int] = {}
        parameters = list(self._model.parameters())
        state = list(_tensors(self._torch, dict(getattr(self._work.optimizer, "state", {})), 4))
        for one in [*parameters, *(p.grad for p in parameters if p.grad is not None), *self._model.buffers(), *state]:
            storage = one.untyped_storage()
            known[storage._cdata] = storage.nbytes()
        return sum(known.values())


def _device(torch: Any, model: Any) -> Any:
    """The one device of the model's parameters; raises ``LookupError`` where a step cannot be tried."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if type(model).__name__ in _DISTRIBUTED or (distributed and torch.distributed.get_world_size() > 1):
        raise LookupError(
            "the model is trained by several processes or devices together: a step of this one alone would wait for them"
        )
    devices = {one.device for one in [*model.parameters(), *model.buffers()]} or {torch.device("cpu")}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise LookupError(f"the model is spread over {names}: only a model on one device can be tried")
    device = devices.pop()
    if device.type == "meta":
        raise LookupError("the model's weights are on `meta`: they have no values yet, so that no step can run")
    meter_for(torch, device)
    return device


def _rows_along(torch: Any, model: Any) -> int:
    return 1 if isinstance(model, torch.nn.RNNBase) and not model.batch_first else 0


def _tensors(torch: Any, value: Any, depth: int) -> Iterator[Any]:
    """The tensors in a structure of outputs: dictionaries, tuples, lists and dataclasses."""
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
            yield from _tensors(torch, part, depth - 1)
