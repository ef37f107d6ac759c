"""Clicks on the panel, sent over the comm to a real kernel as a browser sends them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from page import Page  # noqa: E402

SETUP = """
from tfdiag_ipython.diagnosis import *
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import *
from tfdiag_ipython.probe import Cell
from tfdiag_ipython.render.panel import make_panel
from IPython.display import display
import threading, time, gc, ipywidgets

def show_panel(session):
    panel = make_panel(session)
    if panel is not None:
        display(panel.bundle, raw=True)
    return panel

where, state = [], {"broken": True}

class Mend(Plan):
    sources = ("state['broken'] = False  # </textarea><script>",)
    def preview(self): return Preview("diff", "--- cell 1\\n+++ cell 1\\n-x = '<b>'\\n+x = 2", "Runs cell 1 again.")
    def execute(self, progress):
        where.append(threading.current_thread() is threading.main_thread())
        state["broken"] = False
        return "Mended it."
    def undo(self):
        state["broken"] = True
        return "Broke it again."
    def verify(self, progress):
        print("the cell's own output")
        return Verification(Status.STILL_FAILING if state["broken"] else Status.VERIFIED, "Cell 1 ran.")

class Slow(Plan):
    threaded = True
    def preview(self): return Preview("command", "sleep")
    def execute(self, progress):
        where.append(threading.current_thread() is threading.main_thread())
        while True:
            progress.report("Sleeping <b>", 0.5)
            time.sleep(0.05)

class Interrupted(Mend):
    def execute(self, progress): raise KeyboardInterrupt

class Refused(Mend):
    def execute(self, progress): raise PlanError("It cannot be mended <here>.")

class Faulty(Mend):
    def execute(self, progress): raise ZeroDivisionError

class OneWay(Mend):
    def undo(self): raise ZeroDivisionError

class Again(Mend):
    def __init__(self, host): super().__init__(host, reruns=(Cell(1, "mend()"),))

class Once(Mend):
    def execute(self, progress):
        time.sleep(0.5)
        return super().execute(progress)

def panel_is_running():
    from tfdiag_ipython.render.acting import RUNNING
    return RUNNING.locked()

PLANS = {"once": Once, "again": Again, "oneway": OneWay, "mend": Mend, "slow": Slow, "stop": Interrupted, "refused": Refused, "faulty": Faulty}

class Session:
    def __init__(self, diagnoses): self.diagnoses = diagnoses
    def plan(self, diagnosis, fix):
        if fix.id == "unplanned": raise PlanError("No cell to edit.")
        return PLANS[fix.id](None)
    def apply(self, plan, progress):
        return plan.execute(progress), plan.verify(progress)
    def on_main_thread(self, action): return False
    def report(self): return "# report </textarea>"
    def reject(self, code):
        state["rejected"] = code
        return f"# {code} is wrong </textarea>"
    def page(self, code): return f"# page of {code}"

def fixes(*kinds):
    return tuple(Fix(id, f"Do {id}", Applicability(kind)) for id, kind in kinds)

first = Diagnosis("AAA001", "a", "The answer", Certainty.CONFIRMED, fixes=fixes(
    ("mend", "unsafe"), ("slow", "safe"), ("stop", "safe"), ("refused", "safe"), ("faulty", "safe"),
    ("unplanned", "safe"), ("again", "safe"), ("once", "safe"), ("oneway", "safe"), ("hand", "display-only")))
second = Diagnosis("BBB002", "b", "Another answer", Certainty.POSSIBLE, fixes=fixes(("mend", "safe")))
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager

    sockets = tempfile.mkdtemp(prefix="tfdiag-")  # not ports: another kernel may take one between choice and use
    manager = KernelManager(transport="ipc", ip=f"{sockets}/k", connection_file=f"{sockets}/kernel.json")
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=argv, language="python", display_name="tests")
    home = str(tmp_path_factory.mktemp("ipython"))
    manager.start_kernel(env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": home})
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    page = Page(client)
    assert not page.run(SETUP)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    shutil.rmtree(sockets)


@pytest.fixture
def page(kernel):
    page = Page(kernel)
    page.run("where.clear(); state['broken'] = True")
    page.shown_first = page.run("panel = show_panel(Session([first, second]))")
    return page


def test_the_panel_is_light_and_leaves_no_text_of_its_own(page):
    (display,) = page.shown_first
    assert display["data"]["text/plain"] == display["data"]["text/html"] == ""
    assert page.messages < 30 and page.traffic < 30_000


def test_buttons_say_their_safety_and_none_is_dead(page):
    labels = set(page.buttons())
    assert {"Do mend (unsafe)", "Do slow (safe)", "Explain this rule", "Show report to copy"} <= labels
    assert not any("hand" in label for label in labels)


def test_unsafe_is_previewed_then_applied_verified_and_undone(page):
    page.click("Do mend (unsafe)")
    assert page.value("state") == "{'broken': True}"
    assert "<del>-x = &#x27;&lt;b&gt;&#x27;</del><ins>+x = 2</ins>" in page.markup()
    assert "Runs cell 1 again." in page.text()
    page.click("Apply")
    assert "Verified: Cell 1 ran." in page.text() and "Mended it." in page.text()
    assert page.value("(state, where)") == "({'broken': False}, [True])"
    assert "To keep the fix, copy this" in page.text() and "<script>" not in page.markup()
    assert "Apply" not in page.buttons()
    page.click("Undo")
    assert page.value("state") == "{'broken': True}" and "Broke it again." in page.text()


def test_a_safe_fix_that_would_run_something_twice_is_shown_first(page):
    assert "runs something twice is shown first" in page.text()
    page.click("Do again (safe)")
    assert page.value("where") == "[]" and "Runs cell 1 again." in page.text()
    page.click("Apply")
    assert "Verified" in page.text()


def test_cancelling_a_preview_changes_nothing(page):
    page.click("Do mend (unsafe)")
    page.click("Cancel")
    assert "Nothing was changed." in page.text() and page.value("where") == "[]"


def test_a_cancelled_preview_or_fix_leaves_the_undo_of_the_fix_before(page):
    page.click("Do mend (unsafe)")
    page.click("Apply")
    page.click("Do mend (unsafe)")
    assert "Apply" in page.buttons() and "Undo" in page.buttons()
    page.click("Cancel")
    assert "Nothing was changed." in page.text() and "Verified" in page.text()
    page.click("Do slow (safe)")
    page.wait_for("Sleeping <b>")
    page.click("Cancel")
    page.wait_for("Cancelled.")
    page.click("Undo")
    assert "Broke it again." in page.text() and page.value("state") == "{'broken': True}"
    assert "Verified" not in page.text() and "Undo" not in page.buttons()


def test_the_second_fix_tells_of_itself_alone(page):
    page.click("Do mend (unsafe)")
    page.click("Apply")
    page.click("Do again (safe)")
    page.click("Apply")
    assert page.text().count("Verified") == 1 and list(page.buttons()).count("Undo") == 1
    page.click("Do refused (safe)")
    assert "It cannot be mended <here>." in page.text() and "Undo" in page.buttons()


def test_a_double_click_carries_a_fix_out_once(page):
    page.run("where.clear()")
    page.double_click("Do once (safe)")
    assert page.value("where") == "[True]" and "Verified" in page.text()


def test_a_click_on_another_panel_is_refused_while_a_fix_runs(page):
    page.click("Do slow (safe)")
    page.wait_for("Sleeping <b>")
    (cancel,) = [model for label, model in page.buttons().items() if label == "Cancel"]
    page.run("show_panel(Session([first]))")
    page.click("Do mend (unsafe)")
    assert "Another fix is running: wait for it to end." in page.text() and page.value("state['broken']") == "True"
    page.press(cancel)
    page.run("while panel_is_running(): time.sleep(0.05)")
    page.click("Do mend (unsafe)")
    assert "Apply" in page.buttons()


def test_what_runs_beside_the_program_can_be_cancelled(page):
    page.click("Do slow (safe)")
    page.wait_for("Sleeping <b>")
    slow = page.widgets[page.buttons()["Do slow (safe)"]]
    assert slow["disabled"] is True
    page.click("Do stop (safe)")  # a click that was under way
    assert "Sleeping" in page.text()
    page.click("Cancel")
    page.wait_for("Cancelled.")
    assert page.value("where") == "[False]" and slow["disabled"] is False


@pytest.mark.parametrize(
    ("fix", "told"),
    [
        ("Do stop (safe)", "Cancelled before its end."),
        ("Do refused (safe)", "It cannot be mended <here>."),
        ("Do faulty (safe)", "The fix failed (ZeroDivisionError)"),
        ("Do unplanned (safe)", "No cell to edit."),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_the_panel_lives_on(page, fix, told):
    page.click(fix)
    assert told in page.text()
    page.click("Do mend (unsafe)")
    page.click("Apply")
    assert "Verified" in page.text()


def test_an_undo_that_goes_wrong_is_one_sentence(page):
    page.click("Do oneway (safe)")
    page.click("Undo")
    assert "Undo failed (ZeroDivisionError)" in page.text() and "Undo" in page.buttons()


def test_fixes_of_another_diagnosis_unfold(page):
    page.click("Fixes, if it is BBB002")
    page.click("Do mend (safe)")
    assert "Verified" in page.text()


def test_the_page_and_the_report_open_and_close(page):
    page.click("Explain this rule")
    (output,) = [page.widgets[model] for model in page.shown if page.widgets[model]["_model_name"] == "OutputModel"]
    assert output["outputs"][0]["data"]["text/markdown"] == "# page of AAA001"
    page.click("Show report to copy")
    assert "# report &lt;/textarea&gt;</textarea>" in page.markup()
    page.click("Show report to copy")
    assert "# report" not in page.text()


def test_a_wrong_diagnosis_goes_alone_and_gives_a_report_to_copy(page):
    page.click("This diagnosis is wrong")
    assert page.value("state.pop('rejected')") == "AAA001"
    assert "AAA001 stays silent for the rest of this session" in page.text()
    assert "# AAA001 is wrong &lt;/textarea&gt;</textarea>" in page.markup()
    assert not page.button("^Do ") and "A safe fix" not in page.text()
    page.click("This diagnosis is wrong")
    assert page.value("'rejected' in state") == "False" and "stays silent" not in page.text()
    page.click("Fixes, if it is BBB002")
    page.click("Do mend (safe)")
    assert "Verified" in page.text()
    page.click("It is not BBB002")
    assert page.value("state.pop('rejected')") == "BBB002" and not page.button("^Do ") and "Undo" in page.buttons()


def test_old_panels_are_closed(page):
    page.run("from tfdiag_ipython.render import panel as module")
    for _ in range(int(page.value("module.LIVE_PANELS * 2"))):  # in one cell, the client's queue would overflow
        page.run("show_panel(Session([first]))")
    roots = [state for state in page.widgets.values() if "tfdiag-panel" in state.get("_dom_classes", ())]
    assert len(roots) == int(page.value("module.LIVE_PANELS"))
    standing = len(page.widgets)
    page.run("show_panel(Session([first]))")
    assert len(page.widgets) == standing  # the closed one left nothing behind
    page.click("Do mend (unsafe)")
    assert "Apply" in page.buttons()


def test_nothing_known_shows_no_panel(page):
    assert page.run("assert show_panel(Session([])) is None") == []
