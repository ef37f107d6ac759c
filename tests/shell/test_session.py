"""A session's plans: worked out in the live scene, carried out, settled later, and never holding the failed cell's objects."""

import gc
import sys
import threading
import weakref

import pytest

from tests.shell.pack import ASSEMBLE, FAILS
from tfdiag_ipython.diagnosis import Status
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.shell.extension import extension_of
from tfdiag_ipython.shell.scene import LATER, RELEASED, still


@pytest.fixture
def failed(run, shell):
    """The session of a cell that has just failed."""
    run(ASSEMBLE, f"result = {FAILS}")
    return extension_of(shell).last


def plan_of(session, fix):
    diagnosis = session.diagnoses[0]
    return session.plan(diagnosis, diagnosis.fix(fix))


def test_an_edit_runs_the_cell_again_and_is_verified_and_undone(failed, shell):
    plan = plan_of(failed, "mend")
    assert "+result = assemble(7, 'whole')" in plan.preview().text
    assert "result" not in shell.user_ns
    done, verification = failed.apply(plan, Progress())
    assert "cell 2" in done and verification.status is Status.VERIFIED
    assert shell.user_ns["result"] == 7
    plan.undo()
    assert "result" not in shell.user_ns


def test_running_a_cell_for_a_button_leaves_the_history_alone(failed, shell, capsys):
    before = list(shell.user_ns["In"]), shell.execution_count
    failed.apply(plan_of(failed, "mend"), Progress())
    assert (list(shell.user_ns["In"]), shell.execution_count) == before


def test_a_cell_that_fails_as_before_is_not_diagnosed_twice_and_can_be_planned_again(failed, shell, capsys):
    host = failed._host
    capsys.readouterr()
    result = host.run(failed.cell)
    assert result.failure is not None and result.failure.top.message == "the widget is broken"
    assert "The widget of size" not in capsys.readouterr().out
    assert extension_of(shell).last is failed
    assert still(failed._seen)[1] == ""


@pytest.mark.parametrize("magic", ["", "%%time\n", "%%capture\n"])
def test_an_error_that_a_magic_swallows_is_a_failure_of_the_run_cell(failed, magic):
    from tfdiag_ipython.probe import Cell

    assert failed._host.run(Cell(3, magic + FAILS)).failure.top.name == "RuntimeError"
    assert failed._host.run(Cell(3, magic + "1")).failure is None


def test_after_a_later_failure_the_frames_are_not_looked_at(run, shell):
    run(ASSEMBLE, f"result = {FAILS}")
    failed = extension_of(shell).last
    assert still(failed._seen)[1] == ""
    run("1/0")
    assert still(failed._seen) == (None, LATER)
    _, verification = failed.apply(plan_of(failed, "mend"), Progress())
    assert verification.status is Status.VERIFIED


def test_a_cell_cannot_be_run_from_another_thread(failed):
    results = []
    thread = threading.Thread(target=lambda: results.append(failed._host.run(failed.cell)))
    thread.start()
    thread.join()
    assert "run it again yourself" in results[0].deferred


def test_a_pending_check_is_settled_when_the_cell_runs_next(failed, run):
    _, verification = failed.apply(plan_of(failed, "later"), Progress())
    assert verification.status is Status.PENDING
    assert "Verified" not in run("'another cell'")
    again = f"result = {FAILS}"
    assert "Still failing: Cell 4 raised RuntimeError: the widget is broken" in run(again)
    assert "Still failing" not in run(again)
    failed.expect()
    shown = run("def assemble(size, state): return size", again)
    assert "Verified: Cell 7 ran without an error." in shown
    assert "Verified" not in run(again)


def test_a_pending_check_recognizes_the_cell_by_its_id(run, shell, capsys):
    if not hasattr(shell.run_cell, "__func__") or "cell_id" not in shell.run_cell.__func__.__code__.co_varnames:
        pytest.skip("this IPython takes no cell ids")
    run(ASSEMBLE)
    shell.run_cell(FAILS, store_history=True, cell_id="abc")
    session = extension_of(shell).last
    assert session.cell.id == "abc"
    session.expect()
    capsys.readouterr()
    shell.run_cell("assemble(7)", store_history=True, cell_id="other")
    assert "Verified" not in capsys.readouterr().out
    shell.run_cell("assemble(7)", store_history=True, cell_id="abc")
    assert "Verified: Cell 4 ran without an error." in capsys.readouterr().out


HOLDER = """
class Big:
    pass

def hold():
    big = Big()
    big.itself = big
    watch(big)
    nested(big)

def nested(inner):
    raise RuntimeError('the widget is broken')
"""


@pytest.mark.parametrize(
    "cell",
    [
        "hold()",
        "try:\n    hold()\nexcept RuntimeError as e:\n    raise RuntimeError('the widget is broken') from e",
        "class E(RuntimeError): pass\ndef carry():\n    e = E('the widget is broken')\n    e.big = Big()\n    watch(e.big)\n"
        "    raise e\ncarry()",
    ],
)
def test_releasing_frees_what_the_failed_cell_held_and_tb_still_prints(run, shell, cell):
    alive = []
    shell.user_ns["watch"] = lambda thing: alive.append(weakref.ref(thing))
    run(HOLDER, cell)
    gc.collect()
    assert any(reference() for reference in alive), "the traceback holds it, as it does without tfdiag"
    before = run("%tb")
    session = extension_of(shell).last
    session.apply(plan_of(session, "free"), Progress())
    gc.collect()
    assert not any(reference() for reference in alive)
    after = run("%tb")
    assert "the widget is broken" in after
    assert before.count("Traceback") == after.count("Traceback")
    assert "TST001" not in after
    assert still(session._seen) == (None, RELEASED)
    assert sys.last_value is not None
    assert run("'fine'").strip().endswith("'fine'")


def test_tfdiag_itself_holds_nothing_of_the_failed_cell(run, shell):
    alive = []
    shell.user_ns["watch"] = lambda thing: alive.append(weakref.ref(thing))
    run(HOLDER, "hold()", "%tfdiag", "%tfdiag report")
    session = extension_of(shell).last
    plan_of(session, "free").preview()
    sys.last_value = sys.last_type = sys.last_traceback = None
    if hasattr(sys, "last_exc"):
        sys.last_exc = None
    shell.InteractiveTB.tb = shell.InteractiveTB.evalue = shell.InteractiveTB.etype = None
    shell.last_execution_result = None
    gc.collect()
    assert not any(reference() for reference in alive)


def test_outside_a_kernel_a_restart_is_left_to_the_person(failed):
    with pytest.raises(PlanError, match="Kernel → Restart"):
        failed.apply(plan_of(failed, "restart"), Progress())


def test_report_and_page(failed):
    assert "The widget of size 7 is broken" in failed.report()
    assert failed.page("tst001").startswith("# TST001 broken-widget")


def test_what_was_defined_anew_since_the_failure_is_edited_where_cells_have_no_ids(run, shell):
    run("state, size = 'broken', 1", "if state != 'whole':\n    raise RuntimeError(f'the widget is {state}')")
    session = extension_of(shell).last
    run("size, state = 2, 'broken'  # mine", "other = 'broken'")
    plan = plan_of(session, "mend")
    assert [cell.number for cell in plan.reruns] == [3, 2]
    assert plan.sources == ("size, state = 2, 'whole'  # mine",)
    assert session.apply(plan, Progress())[1].status is Status.VERIFIED and shell.user_ns["size"] == 2
