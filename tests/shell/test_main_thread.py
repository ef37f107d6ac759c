"""A click that comes on another thread, as JupyterLab's do with ipykernel 7.0 to 7.3, touches the person's objects on the main thread."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.shell.kernels import LOAD, ROOT, environment

sys.path.insert(0, str(Path(ROOT) / "tools"))

pytestmark = pytest.mark.kernel
FAILS = """
import threading, time
log, busy = [], False
class Held:
    def __del__(self):
        log.append((threading.current_thread() is threading.main_thread(), busy))
def fails():
    held = Held()
    raise RuntimeError('the widget is broken')
fails()
"""
CLICKS = """
from tfdiag_ipython.render import panel
def buttons(widget):
    return [widget] if hasattr(widget, 'click') else [one for child in getattr(widget, 'children', ()) for one in buttons(child)]
(button,) = [one for one in buttons(panel._live[-1].root) if one.description.startswith({label!r})]
busy = True
clicking = threading.Thread(target=button.click)
clicking.start()
time.sleep(0.5)
busy = False
"""


@pytest.fixture
def page():
    from jupyter_client.manager import start_new_kernel
    from page import Page

    manager, client = start_new_kernel(env=environment())
    try:
        yield Page(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_it_waits_for_the_cell_that_runs(page):
    page.run(LOAD)
    page.run(FAILS)
    page.run(CLICKS.format(label="Free"))
    page.wait_for("This is what would be freed")
    assert page.value("log") == "[]"
    page.run(CLICKS.format(label="Apply"))
    page.wait_for("Freed")
    assert page.value("log") == "[(True, False)]"


def test_a_cell_that_the_fix_would_run_is_left_to_the_person(page):
    page.run(LOAD)
    page.run("state = 'broken'")
    page.run("import threading, time\nif state == 'broken':\n    raise RuntimeError('the widget is broken')")
    page.run(CLICKS.format(label="Mend"))
    page.wait_for("This is what would change")
    page.run(CLICKS.format(label="Apply"))
    page.wait_for("Pending")
    assert page.value("state") == "broken"
