"""What a restart says is to be run again."""

import pytest

GUARDED = [
    ("loss = model(**batch).loss", "%%tfdiag --guard\nloss = model(**batch).loss"),
    ("%%time\nf(x)", "%%tfdiag --guard\n%%time\nf(x)"),
    ("%%tfdiag --quiet\nf(x)", "%%tfdiag --quiet --guard\nf(x)"),
    ("%%tfdiag --guard\nf(x)", "%%tfdiag --guard\nf(x)"),
]


@pytest.mark.parametrize(("source", "guarded"), GUARDED)
def test_after_a_device_side_assert_the_cell_is_given_with_the_guard_on(source, guarded):
    from tfdiag_ipython.fixes.restart import with_guard
    from tfdiag_ipython.probe import Cell

    told = with_guard(Cell(5, source))
    assert "before cell 5 again" in told and told.endswith(f"\n\n{guarded}")
