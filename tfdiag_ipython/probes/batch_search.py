"""Which batch to try next, so that few real steps find the largest one that fits. Pure arithmetic on what was measured so far.

A step's peak is the largest of its phases' peaks (and moments', where these are known), and each grows with the batch: by a straight line for nearly every model, by a parabola
where all rows meet all rows (a contrastive loss). So each phase has a curve of its own: an optimizer's step, which hides the growth of the
others at a small batch, does not count where they overtake it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALL = (2, 4)
"""Rows of the two steps that predict. One row alone is another case for many models (batch normalization refuses it)."""
MOST_TRIALS = 4
GOOD_ENOUGH = 0.95
"""Part of the largest batch with which the search is content."""
STEP_DOWN = 0.93
"""What is tried below a refusal: if it runs, halfway between the two is within ``GOOD_ENOUGH`` whether or not that runs."""
LAST_STEP_DOWN = 0.9
"""What is tried when no trial is left after that: a little less that runs is better than another refusal."""
HEAD_ROOM = 0.03
"""Part of the room that the first guess leaves: what allocators round up, and pieces too small to be used."""
FAR = 32
"""Where the first guess is this many times what was measured, a batch on the way is tried first: a small error grew as much."""
WAY = 4
"""How far before that guess."""
BENT = 0.02
"""Part by which a third measurement leaves the line through the first two before the curve counts as bent."""


@dataclass(frozen=True)
class Trial:
    """One step that was really run.

    ``peaks``: bytes by phase or moment that the step held at most, beyond what was held before it; of a refused step what it had
    reached.
    ``refused``: what refused the memory, in the error's own first words; empty for a step that ran. ``wanted``: bytes that were
    asked for then, 0 where the error does not say. ``seconds``: how long it took.
    """

    rows: int
    peaks: tuple[int, ...]
    seconds: float = 0.0
    refused: str = ""
    wanted: int = 0

    @property
    def peak(self) -> int:
        return max(self.peaks, default=0)


def predict(trials: Sequence[Trial], rows: int) -> int:
    """Bytes of the peak of a step of so many rows, beyond what is held before it; needs one step that ran, two for a slope."""
    ran = sorted((trial for trial in trials if not trial.refused), key=lambda trial: trial.rows)
    phases = max(len(trial.peaks) for trial in ran)
    curves = (
        [(trial.rows, trial.peaks[phase]) for trial in ran if phase < len(trial.peaks)] for phase in range(phases)
    )
    return max(_curve(points, rows) for points in curves)


def largest(trials: Sequence[Trial], room: int, most: int) -> int:
    """The largest number of rows, up to ``most``, whose predicted peak is within ``room`` bytes; 0 if not even one row is."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if predict(trials, middle) <= room else (low, middle)
    return low


def next_rows(small: Sequence[Trial], tried: Sequence[Trial], room: int, most: int) -> int | None:
    """The rows to try next, or ``None`` when the search is over.

    ``small``: the steps measured to predict; ``tried``: the trials so far; ``room``: bytes that a step may take, as far as one
    knows; ``most``: rows beyond which nobody asks.
    """
    known = [*small, *tried]
    low = max((trial.rows for trial in known if not trial.refused), default=0)
    high = min((trial.rows for trial in known if trial.refused), default=most + 1)
    if len(tried) >= MOST_TRIALS or high - low <= 1:
        return None
    refused = [trial for trial in known if trial.refused]
    if not low:
        return high // 2
    if refused and low >= GOOD_ENOUGH * (high - 1):
        return None
    # a step that was refused had reached so much, and with what it asked for then it would have had too much
    room = min([room, *(trial.peak + trial.wanted for trial in refused if trial.wanted)])
    guess = min(largest(known, room, most), high - 1)
    if not refused:
        if tried and low >= GOOD_ENOUGH * guess:
            return None
        if not tried and guess > FAR * low:
            return guess // WAY
        careful = min(largest(known, int(room * (1 - HEAD_ROOM)), most), guess)
        return next((rows for rows in (careful, guess) if rows > low), None)
    reached = min(largest(known, max(trial.peak for trial in refused), most), high - 1)
    return min(max(_below(low, high, guess, reached, MOST_TRIALS - len(tried)), low + 1), high - 1)


def _below(low: int, high: int, guess: int, reached: int, left: int) -> int:
    """The rows to try below a refused batch.

    ``guess``: the largest that the curve still predicts; ``reached``: what would fit into the memory that a refused step had
    reached, which is there for certain; ``left``: trials that are left.
    """
    if guess < high * GOOD_ENOUGH:  # what was seen since says so
        sure = reached <= low or GOOD_ENOUGH * guess <= reached <= guess
        return min(reached, guess) if sure or left == 1 else (reached + guess) // 2
    if high > 2 * low and left == MOST_TRIALS - 1:  # refused on the way: the curve bends, and a step between shows how
        return math.isqrt(low * high)
    if low >= high * (1 - 3 * (1 - STEP_DOWN)) or (left == 1 and reached <= low):
        return (low + high) // 2
    return int(high * STEP_DOWN) if left > 1 else int(min(reached, high) * LAST_STEP_DOWN)


def _curve(points: Sequence[tuple[int, int]], rows: int) -> int:
    """The value at ``rows`` of what goes through the points nearest to it: a line, or a parabola where a line does not do."""
    if len(points) == 1:
        return points[0][1]
    if len(points) == 2:
        return round(_line(points[0], points[1], rows))
    near = sorted(sorted(points, key=lambda point: abs(point[0] - rows))[:3])
    (x, first), (y, second), (z, third) = near
    expected = _line(near[0], near[1], z)
    if third <= 0 or abs(third - expected) <= BENT * third or rows < y:
        return round(_line(near[1], near[2], rows))
    steep, steeper = (second - first) / (y - x), (third - second) / (z - y)
    bend = (steeper - steep) / (z - x)
    if bend < 0:  # memory that grows slower than by a line is a constant that went away
        return round(_line(near[1], near[2], rows))
    return round(first + steep * (rows - x) + bend * (rows - x) * (rows - y))


def _line(first: tuple[int, int], second: tuple[int, int], rows: int) -> float:
    """A line that never falls: a larger batch needs no less."""
    slope = max((second[1] - first[1]) / (second[0] - first[0]), 0.0)
    return second[1] + slope * (rows - second[0])
