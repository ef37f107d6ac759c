"""Runs every case of every built-in rule: see tfdiag_ipython/testing.py."""

from collections.abc import Callable

import pytest

from tfdiag_ipython.testing import Skip, cases

PARAMETERS = [
    pytest.param(check, id=label, marks=[pytest.mark.hf] if label.endswith("reproduce") else [])
    for label, check in cases()
]


@pytest.mark.parametrize("check", PARAMETERS)
def test_case(check: Callable[[], None]) -> None:
    try:
        check()
    except Skip as skip:
        pytest.skip(str(skip))
