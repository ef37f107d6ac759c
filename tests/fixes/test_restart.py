"""What a restart says is to be run again."""

import pytest

from tfdiag_ipython.fixes.restart import restart, with_guard
from tfdiag_ipython.probe import Cell, Scene
from tfdiag_ipython.testing import PlainHost

GUARDED = [
    ("loss = model(**batch).loss", "%%tfdiag --guard\nloss = model(**batch).loss"),
    ("%%time\nf(x)", "%%tfdiag --guard\n%%time\nf(x)"),
    ("%%tfdiag --quiet\nf(x)", "%%tfdiag --quiet --guard\nf(x)"),
    ("%%tfdiag --guard\nf(x)", "%%tfdiag --guard\nf(x)"),
]


@pytest.mark.parametrize(("source", "guarded"), GUARDED)
def test_after_a_device_side_assert_the_cell_is_to_be_run_with_the_guard_on(source, guarded):
    assert with_guard(source) == guarded


def test_of_a_cell_that_was_run_twice_the_newest_version_is_to_be_run_again():
    cells = [Cell(1, "import torch", "a"), Cell(2, "step(1)", "b"), Cell(3, "limit = 1", "c"), Cell(4, "step(2)", "b")]
    plan = restart(Scene({}, cells=cells, host=PlainHost()), guarded=True)
    assert [(cell.number, cell.source) for cell in plan.again] == [
        (1, "import torch"),
        (3, "limit = 1"),
        (4, "%%tfdiag --guard\nstep(2)"),
    ]
