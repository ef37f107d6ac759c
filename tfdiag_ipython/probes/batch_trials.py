"""Finds the largest batch that one step of a model has memory for: predicts from two small steps, then tries a few real ones.

Everything that a step changes is put back as it was (:mod:`~tfdiag_ipython.probes.training_state`).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfdiag_ipython.fixes.memory import clear_traceback
from tfdiag_ipython.probes.batch_rows import KINDS, Rows
from tfdiag_ipython.probes.batch_search import SMALL, Trial, largest, next_rows, predict
from tfdiag_ipython.probes.memory_refusals import refusal, wanted, words
from tfdiag_ipython.probes.memory_room import Room, bounded, enforced, few_looked_through, give_back, room_on
from tfdiag_ipython.probes.own_hooks import step_has_own_hooks
from tfdiag_ipython.probes.peak_memory import Reading, meter_for, telling
from tfdiag_ipython.probes.training_state import TrainingState
from tfdiag_ipython.probes.training_step import NoStep, Step, Work, check_optimizer, device_of, reading
from tfdiag_ipython.sizes import memory_size

MOST_ROWS = 65_536
"""Rows beyond which nobody asks."""
MOST_SECONDS = 120.0
"""A trial that would take longer, going by those before it, is not made."""


@dataclass(frozen=True)
class Fit:
    """What was found: plain numbers.

    ``rows``: the largest batch that ran (0 if none did); ``predicted``: rows that the small steps promised; ``room``: bytes that a step
    may take beyond ``held`` (parameters, buffers, gradients, optimizer state), and ``limit``, who says so; ``small`` and
    ``trials``: the steps that were really run; ``work`` and ``row``: what a step and a row were; ``notes``: sentences; ``failed``: rows
    at which an error that is no refusal of memory ended the search, and its first words.
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
    failed: tuple[int, str] | None = None

    @property
    def peak(self) -> int:
        """Bytes that the largest step took beyond ``held``."""
        return max((trial.peak for trial in (*self.small, *self.trials) if trial.rows == self.rows), default=0)


class _Failed(Exception):
    """A step failed, and not for memory: at so many ``rows``, ``told`` in the error's own first words."""

    def __init__(self, rows: int, told: str) -> None:
        super().__init__(rows, told)
        self.rows, self.told = rows, told


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
    with reading("the model", "its parameters, buffers and modules have to be readable"):
        device = device_of(torch, model)
        state = TrainingState(torch, model, work.optimizer)
        along = _rows_along(torch, model) if dimension is None else dimension
    if work.optimizer is not None:
        check_optimizer(work.optimizer)
    with reading("the inputs", f"name {KINDS}"):
        rows = Rows(torch, inputs, model, along)
    tell(f"Copying the state, {memory_size(state.bytes)}, to put it back afterwards …")
    told, search = "", _Search(torch, model, rows, work, device, tell)
    try:
        with state, few_looked_through():
            return search.run(memory, most)
    except _Failed as error:
        told = search.sentence(error)
        clear_traceback(error)
    except Exception as error:
        if type(error) in (LookupError, NoStep):
            raise
        told = search.lost(words(error))
        clear_traceback(error)
    raise LookupError(told)


class _Search:
    def __init__(
        self, torch: Any, model: Any, rows: Rows, work: Work, device: Any, tell: Callable[[str], None]
    ) -> None:
        self._torch, self._rows, self._work, self._device = torch, rows, work, device
        self._step = Step(torch, model, rows, work, device)
        self._hooks = step_has_own_hooks(model, work.optimizer)
        self._tell = tell
        self._real: int | None = None
        self._moments: tuple[int, ...] = ()
        self._reading = Reading(())
        self._failed: tuple[int, str] | None = None

    def run(self, memory: int | None, most: int) -> Fit:
        self._step.prepare()
        self._tell(f"A first step of {SMALL[0]} rows …")
        self._let_go()
        room = self._room(memory)
        warm = self._trial(SMALL[0], room, memory)  # makes what stays: the optimizer's state, the libraries' workspaces
        held, room = self._step.held(), self._room(memory)
        small = self._small(room, memory) if not warm.refused else [warm, self._single(warm, room, memory)]
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
            try:
                trials.append(self._trial(rows, room, memory))
            except _Failed:
                if not self._alive():
                    raise
                break
            room = self._room(memory)  # at their first large step the libraries make workspaces that stay
        largest_run = max((trial.rows for trial in [*small, *trials] if not trial.refused), default=0)
        if largest_run == most:
            notes.append(f"more than {most:,} rows were not tried")
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
            (*notes, *self._notes(largest_run, trials)),
            self._failed,
        )

    def _notes(self, largest_run: int, trials: Sequence[Trial]) -> Iterator[str]:
        if self._failed is not None:
            yield (
                f"a step of {self._failed[0]:,} rows fails, and not for memory, so that more than {largest_run:,} may fit: "
                f"`--at-most {self._failed[0] - 1}` searches below it"
            )
        if any("primitive" in trial.refused for trial in trials):
            yield "oneDNN had no room for its code, and may say so from now on: restart the kernel if your own steps fail so"
        if self._hooks:
            yield (
                f"hooks of your own ran in each of the {self._step.made} steps: what they keep outside the model is still there"
            )
        if self._step.stood_in:
            yield "the outputs hold no loss: the sum of the first one stood in for it (a loss of your own takes more)"
        if self._step.keeps_gradients:
            yield "gradients of an earlier step are in memory, and were during each step: `model.zero_grad()` frees them"

    def sentence(self, failed: _Failed) -> str:
        """What is said where a step failed that the search cannot do without."""
        unlike = f" ({self._rows.unlike})" if self._rows.unlike else ""
        if failed.rows == SMALL[0]:
            return f"a step of {failed.rows} rows fails by itself: {failed.told}{unlike}"
        return f"a step of {SMALL[0]} rows runs, but one of {failed.rows} rows fails, and not for memory: {failed.told}{unlike}"

    def lost(self, told: str) -> str:
        """What is said where copying the state or putting it back failed."""
        if not self._step.made:
            return f"the model's state could not be copied ({told}): without a copy nothing is tried"
        after = f" after a step of {self._failed[0]:,} rows had failed ({self._failed[1]})" if self._failed else ""
        return f"the model's state could not be put back{after} ({told}): restart the kernel and make the model anew"

    def _single(self, refused: Trial, room: Room, memory: int | None) -> Trial:
        """One row, where two are refused; not every model takes one."""
        told = ""
        try:
            return self._trial(1, room, memory)
        except _Failed as error:
            told = error.told
        raise NoStep(
            f"{refused.rows} rows are refused for memory ({refused.refused}; a step has room for {memory_size(room.free)}), and one "
            f"row cannot be tried ({told}): make the rows smaller, or free memory"
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
        """One real step; raises ``_Failed`` for an error that is no refusal of memory."""
        meter = meter_for(self._torch, self._device)
        refused = failed = ""
        started = time.perf_counter()
        meter.start()
        try:
            with bounded(self._device, self._real):
                self._step.make(rows, meter.next_phase)
        except NoStep:
            raise
        except Exception as error:
            refused = refusal(error)
            failed = "" if refused else words(error)
            clear_traceback(error)
        finally:
            self._reading = meter.stop()
            self._step.drop_gradients()
        if failed:
            self._failed = (rows, failed)
            raise _Failed(rows, failed)
        seconds = time.perf_counter() - started
        self._let_go()
        peaks = self._peaks(self._reading) if not refused else self._reading.phases
        over = max(peaks) > room.free and (memory is not None or not enforced(self._device))
        if over and not refused:
            refused = f"it took {memory_size(max(peaks))}"
        return Trial(rows, peaks, seconds, refused, wanted(refused))

    def _let_go(self) -> None:
        """What is no longer used is given back, so that each step begins as the one before it did."""
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
            asked = Room(max(memory - self._step.held(), 0), f"{memory_size(memory)}, as you said, less what is held")
        return min((room for room in (asked, real) if room is not None), key=lambda room: room.free)


def _rows_along(torch: Any, model: Any) -> int:
    return 1 if isinstance(model, torch.nn.RNNBase) and not model.batch_first else 0
