"""One click puts the fix into the notebook's own cell, and Undo takes it out again; what the person typed since is left alone."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest

from tests.browser import lab

pytestmark = [pytest.mark.browser, pytest.mark.hf, pytest.mark.kernel]
WRONG = "from transformers import AutoTokenizr  # the tokenizer"
RIGHT = "from transformers import AutoTokenizer  # the tokenizer"
CELLS = ("%load_ext tfdiag", WRONG, "last = 1", WRONG)
FAILS = 1
SOURCES = "() => [...window.jupyterapp.shell.currentWidget.model.cells].map(cell => cell.sharedModel.getSource())"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    home = tmp_path_factory.mktemp("link")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number in range(9):
        nbformat.write(notebook, notebooks / f"{number}.ipynb")
    with lab.server(notebooks, home) as address:
        yield address


@pytest.fixture(scope="module")
def page(tmp_path_factory, address):
    with lab.browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


def sources(page: Any) -> list[str]:
    return page.evaluate(SOURCES)


def failed(page: Any, address: str, name: str) -> Any:
    """The notebook after its failing cell has run; gives the panel."""
    lab.open_notebook(page, address, name)
    return lab.run_to_first_panel(page)


def test_the_failing_cell_holds_the_fix_after_one_click_and_undo_takes_it_back(page, address):
    panel = failed(page, address, "0.ipynb")
    panel.get_by_role("button", name="Write AutoTokenizer").click()
    panel.get_by_text("The text of cell 2 now holds the fix").wait_for()
    assert "Verified" in panel.inner_text() and "To keep the fix" not in panel.inner_text()
    assert sources(page) == [*CELLS[:FAILS], RIGHT, *CELLS[FAILS + 1 :]]  # the cell with equal text is another one
    panel.get_by_role("button", name="Undo").click()
    panel.get_by_text("The text of cell 2 is as it was").wait_for()
    assert sources(page) == list(CELLS)


MOVED = """() => {
    const notebook = window.jupyterapp.shell.currentWidget;
    notebook.model.sharedModel.moveCell(1, 3);
    notebook.content.widgets[3].inputHidden = true;
}"""


def test_a_cell_that_was_moved_and_collapsed_is_found_by_its_id(page, address):
    panel = failed(page, address, "1.ipynb")
    page.evaluate(MOVED)
    panel.get_by_role("button", name="Write AutoTokenizer").click()
    panel.get_by_text("The text of cell 2 now holds the fix").wait_for()
    assert sources(page) == [CELLS[0], CELLS[2], CELLS[3], RIGHT]


def test_it_is_one_step_of_the_cells_own_undo(page, address):
    panel = failed(page, address, "2.ipynb")
    panel.get_by_role("button", name="Write AutoTokenizer").click()
    panel.get_by_text("The text of cell 2 now holds the fix").wait_for()
    page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets[1].model.sharedModel.undo()")
    assert sources(page) == list(CELLS)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("3.ipynb", "model.cells.get(1).sharedModel.setSource('mine = 1')", "Cell 2 was edited since"),
        ("4.ipynb", "model.sharedModel.deleteCell(1)", "Cell 2 is no longer in the notebook"),
        ("5.ipynb", "model.cells.get(1).setMetadata('editable', false)", "Cell 2 is read-only"),
    ],
)
def test_what_was_changed_since_is_left_alone_and_the_fix_can_be_copied(page, address, name, change, told):
    """The click comes first: with the cell its panel goes, and it can be clicked in a view of the output alone."""
    failed(page, address, name)
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1; window.failed = window.jupyterapp.shell.currentWidget.model }")
    lab.command(page, "notebook:create-output-view")
    panel = page.locator(".jp-LinkedOutputView .tfdiag-panel")
    panel.wait_for()
    page.evaluate(f"() => {{ const model = window.failed; {change} }}")
    before = page.evaluate("() => [...window.failed.cells].map(cell => cell.sharedModel.getSource())")
    panel.get_by_role("button", name="Write AutoTokenizer").click()
    panel.get_by_text(told).wait_for()
    assert page.evaluate("() => [...window.failed.cells].map(cell => cell.sharedModel.getSource())") == before
    assert panel.locator("textarea").input_value() == RIGHT
