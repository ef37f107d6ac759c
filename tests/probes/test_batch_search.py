"""The search for the largest batch finds at least 95 % of it in at most four trials, on curves of many shapes."""

import random

import pytest

from tfdiag_ipython.probes.batch_search import MOST_TRIALS, SMALL, Trial, largest, next_rows, predict

MOST = 65_536


def search(phases, limit, believed, most=MOST):
    """What the search finds where a step of ``rows`` needs ``phases(rows)`` bytes and more than ``limit`` are refused."""

    def run(rows):
        needed = phases(rows)
        if max(needed) > limit:
            return Trial(rows, (int(limit * 0.9),), refused="out of memory")
        return Trial(rows, needed)

    small = [run(rows) for rows in SMALL]
    if small[0].refused:
        small = [run(1), small[0]]
    tried = []
    while small[0].rows and (rows := next_rows(small, tried, believed, most)) is not None:
        assert rows not in {trial.rows for trial in (*small, *tried)}, "a batch is tried twice"
        tried.append(run(rows))
    return max((trial.rows for trial in (*small, *tried) if not trial.refused), default=0), len(tried)


def truth(phases, limit, most=MOST):
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if max(phases(middle)) <= limit else (low, middle)
    return low


def straight(chance):
    base, slope, optimizer = chance.randrange(10**9), chance.randrange(10**4, 10**8), chance.randrange(4 * 10**9)
    return lambda rows: (base + slope * rows, optimizer)


def proportional(chance):
    slope = chance.randrange(10**4, 10**8)
    return lambda rows: (slope * rows, 0)


def parabola(chance):
    base, slope, bend = chance.randrange(10**9), chance.randrange(10**4, 10**8), chance.randrange(10**2, 10**6)
    return lambda rows: (base + slope * rows + bend * rows * rows, 0)


@pytest.mark.parametrize("overestimated", [1.0, 1.03, 1.06])
@pytest.mark.parametrize("kind", [straight, proportional])
def test_straight_curves_are_found_within_four_trials(kind, overestimated):
    chance = random.Random(1)
    for _ in range(500):
        phases, limit = kind(chance), chance.randrange(5 * 10**9, 80 * 10**9)
        found, trials = search(phases, limit, int(limit * overestimated))
        assert trials <= MOST_TRIALS
        assert found >= min(0.95 * truth(phases, limit), truth(phases, limit) - 1)


def test_a_curve_that_bends_is_found_too():
    chance = random.Random(2)
    good = 0
    for _ in range(500):
        phases, limit = parabola(chance), chance.randrange(5 * 10**9, 80 * 10**9)
        found, trials = search(phases, limit, limit)
        assert trials <= MOST_TRIALS
        assert found >= min(0.85 * truth(phases, limit), truth(phases, limit) - 1)
        good += found >= 0.95 * truth(phases, limit)
    assert good >= 490


def test_an_optimizer_step_that_hides_the_growth_of_a_small_batch_does_not_mislead():
    small = [Trial(rows, (1000 + 100 * rows, 50_000)) for rows in SMALL]
    assert predict(small, 100) == 50_000
    assert predict(small, 1000) == 101_000
    assert largest(small, 101_000, MOST) == 1000
    assert largest(small, 49_999, MOST) == 0


@pytest.mark.parametrize("limit", range(100, 1300, 100))
def test_few_rows_are_counted_exactly(limit):
    def phases(rows):
        return (100 * rows,)

    found, trials = search(phases, limit, limit)
    assert found == limit // 100 and trials <= MOST_TRIALS


def test_nothing_beyond_the_most_is_tried():
    assert search(lambda rows: (rows,), 10**9, 10**9, most=300)[0] == 300


def test_a_batch_that_needs_no_memory_ends():
    assert search(lambda rows: (0, 0), 10**9, 10**9)[0] == MOST
