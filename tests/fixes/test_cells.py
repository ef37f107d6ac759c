"""An edit goes into the cell that must change, and runs again what depends on it, in order."""

from dataclasses import replace

import pytest

from tfdiag_ipython.diagnosis import Status
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.cells import asks_first, edit_cells, runs_twice
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.testing import PlainHost


def notebook(*sources: str) -> PlainHost:
    host = PlainHost()
    for source in sources:
        host.add(source)
    return host


def change(source: str) -> str:
    return source.replace("size = 0", "size = 2")


def test_defining_cell_is_edited_and_what_depends_on_it_runs_again_in_order():
    host = notebook(
        "size = 0  # here", "other = 1", "double = size * 2", "seen = []", "seen.append(other)", "1 / double"
    )
    plan = edit_cells(host.scene(), change)
    assert [cell.number for cell in plan.reruns] == [1, 3, 6]
    assert "+size = 2  # here" in plan.preview().text and "cell 1, cell 3, cell 6" in plan.preview().note
    plan.execute(Progress())
    assert plan.verify(Progress()).status is Status.VERIFIED
    assert host.namespace["seen"] == [1], "a cell that does not depend on the edit must not run again"


def test_undo_binds_the_names_to_what_they_were():
    host = notebook("size = 0", "new = 1 / size")
    plan = edit_cells(host.scene(), change)
    plan.execute(Progress())
    plan.verify(Progress())
    assert host.namespace["new"] == 0.5
    plan.undo()
    assert host.namespace["size"] == 0 and "new" not in host.namespace


def test_a_cell_run_twice_counts_once_in_its_last_place():
    host = notebook("size = 0", "x = 3", "size = 0", "1 / size")
    plan = edit_cells(host.scene(), change)
    assert [cell.number for cell in plan.reruns] == [3, 4]


def test_still_failing_and_other_failure_are_told_apart():
    host = notebook("size = 0", "{}[size]")
    plan = edit_cells(host.scene(), change, failure=host.run(host.cells[-1]).failure)
    plan.execute(Progress())
    verification = plan.verify(Progress())
    assert verification.status is Status.OTHER_FAILURE and "KeyError: 2" in verification.detail
    useless = notebook("size = 0", "{}[size]")
    unchanged = edit_cells(useless.scene(), lambda s: s + " # x", failure=useless.run(useless.cells[-1]).failure)
    assert unchanged.verify(Progress()).status is Status.STILL_FAILING


def test_code_that_stands_in_no_cell_is_a_sentence():
    host = notebook("from math import inf", "1 / 0")
    with pytest.raises(PlanError, match="none of the cells"):
        edit_cells(host.scene(), change)


def test_undo_runs_the_cell_that_made_large_values_as_it_stands():
    host = notebook("size = 0\nlarge = [size, *range(30_000)]", "1 / size")
    plan = edit_cells(host.scene(), change)
    assert "runs cell 1 as it stands" in plan.preview().note
    plan.execute(Progress())
    plan.verify(Progress())
    assert host.namespace["large"][0] == 2
    plan.undo()
    assert host.namespace["large"][0] == 0 and host.namespace["size"] == 0


def test_once_another_cell_runs_undo_takes_nothing_back():
    host = notebook("size = 0", "new = 1 / size")
    plan = edit_cells(host.scene(), change)
    plan.execute(Progress())
    plan.verify(Progress())
    plan.forget()  # as the shell does when a cell begins
    host.namespace["new"] = "mine"
    with pytest.raises(PlanError, match="Another cell was run since"):
        plan.undo()
    assert host.namespace["new"] == "mine"


def test_where_the_failing_cell_alone_made_the_lost_value_the_preview_says_so():
    host = notebook("size = 0", "large = object()", "large = object(); 1 / size")
    plan = edit_cells(host.scene(), lambda source: source.replace("1 / size", "1"))
    assert not plan.undoable and "cannot be undone: `large`" in plan.preview().note
    assert asks_first(plan)


@pytest.mark.parametrize(
    ("source", "twice"),
    [
        ("1 / 0", True),
        ("from math import infinity", False),
        ("import math\nsize = 3\n\ndef f():\n    return 0\nvalue = int('x')", False),
        ("seen = list()\nfrom math import infinity", True),
        ("print('trained for hours')\n\nint('x')  # here", True),
        ("for size in (1, 0):\n    print(size)\n    int('x')", True),
        ("def go():\n    print()\n    int('x')\ngo()", True),
        ("class A:\n    print()\nint('x')", True),
        ("int(str('x'))", True),
        ("with open('f', 'w') as f:\n    from math import infinity", True),
    ],
)
def test_what_ran_before_the_failing_call_would_run_twice(source, twice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    host = notebook(source)
    failure = host.run(host.cells[-1]).failure
    plan = edit_cells(host.scene(), lambda text: text + "  # changed", failure=failure)
    assert runs_twice(plan) is twice


def test_a_check_that_runs_an_earlier_cell_runs_it_twice():
    host = notebook("size = 0", "1 / size")
    plan = edit_cells(host.scene(), change, failure=host.run(host.cells[-1]).failure)
    assert runs_twice(plan)


def test_the_cell_that_the_failure_depends_on_is_edited_not_the_newest_that_looks_like_it():
    host = notebook(
        "size = 0",
        "def part():\n    return 1 / size",
        "other = [size := 0][0]\nsize = 0",
        "spare = dict(size = 0)",
        "part()",
    )
    assert [edit.cell.number for edit in edit_cells(host.scene(), change).edits] == [3]
    assert [cell.number for cell in edit_cells(host.scene(), change).reruns] == [3, 5]


def test_what_a_function_reads_when_it_is_called_makes_its_callers_run_again():
    host = notebook(
        "class Part:\n    def made(self):\n        return size", "size = 0", "part = Part()", "y = part.made()", "1 / y"
    )
    plan = edit_cells(host.scene(), change)
    assert [cell.number for cell in plan.reruns] == [2, 3, 4, 5]
    assert plan.verify(Progress()).status is Status.VERIFIED


def test_a_cell_that_failed_is_neither_edited_nor_run_again():
    host = notebook(
        "size = 0", "size = 0\nraise KeyError", "double = size * 2\nraise KeyError", "double = size * 2", "1 / double"
    )
    cells = [replace(cell, failed=cell.number in (2, 3, 5)) for cell in host.cells]
    scene = Scene(host.namespace, exception=host.exception, cells=[*cells[:-1], host.cells[-1]], host=host)
    plan = edit_cells(scene, change)
    assert [edit.cell.number for edit in plan.edits] == [1]
    assert [cell.number for cell in plan.reruns] == [1, 4, 5]


def test_of_two_alike_statements_the_one_that_the_failing_line_reads_is_changed():
    host = notebook("a = dict(size = 0)\nb = dict(size = 0)  # this\nc = dict(size = 0)", "c\n1 / b['size']\na")
    plan = edit_cells(host.scene(), change, apart=True)
    assert plan.sources == ("a = dict(size = 0)\nb = dict(size = 2)  # this\nc = dict(size = 0)",)


def test_a_local_variable_is_no_variable_of_the_program():
    host = notebook("large = object()", "size = 0\nones = [large for large in ()]", "1 / size")
    plan = edit_cells(host.scene(), change)
    assert "`large`" not in plan.preview().note and "runs cell 2" not in plan.preview().note


@pytest.mark.parametrize(
    "perhaps",
    [
        "def reset():\n    global size\n    size = None",
        "from contextlib import suppress\nwith suppress(ValueError):\n    size = int('x')",
    ],
)
def test_what_may_never_be_bound_there_does_not_hide_where_it_is(perhaps):
    plan = edit_cells(notebook("size = 0", perhaps, "1 / size").scene(), change)
    assert [edit.cell.number for edit in plan.edits] == [1]
