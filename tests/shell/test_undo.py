"""Undo, clicked in a real kernel's panel after a fix that ran the person's cells."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.shell.kernels import LOAD, ROOT, environment

sys.path.insert(0, str(Path(ROOT) / "tools"))

pytestmark = pytest.mark.kernel
FAILS = "if state[0] == 'b':\n    raise RuntimeError(f'the widget is {state}')\nmade = state"


@pytest.fixture
def page():
    from jupyter_client.manager import start_new_kernel
    from page import Page

    manager, client = start_new_kernel(env=environment())
    page = Page(client)
    try:
        page.run(LOAD)
        page.run("state = 'broken'")
        page.run(FAILS)
        page.click("Mend (unsafe)")
        page.click("Apply")
        assert "Verified" in page.text(), page.text()
        yield page
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_it_binds_the_variables_as_they_were(page):
    page.click("Undo")
    assert "Put back: made , state ." in page.text(), page.text()
    assert page.value("(state, 'made' in globals())") == "('broken', False)"


def test_after_another_cell_it_says_why_it_takes_nothing_back(page):
    page.run("other = 1")
    page.click("Undo")
    assert "Another cell was run since" in page.text(), page.text()
    assert page.value("(state, made)") == "('whole', 'whole')"
