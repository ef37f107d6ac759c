"""The right cell is found and run in a long notebook whose cells were moved, and the page logs no error meanwhile."""

from __future__ import annotations

import nbformat
import pytest

from tests.browser import lab
from tests.browser.test_cell_link import CELLS, COUNTS, RIGHT, WRONG, sources

pytestmark = [pytest.mark.browser, pytest.mark.hf, pytest.mark.kernel]
MANY = """() => {
    const model = window.jupyterapp.shell.currentWidget.model.sharedModel;
    model.insertCell(0, {cell_type: 'markdown', source: 'above'});
    model.moveCell(1, 0);
}"""


def test_after_insertions_and_moves_the_right_cell_runs_and_the_page_logs_no_error(tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    cells = [CELLS[0], *(f"{number}" for number in range(60))]
    cells[3] = WRONG
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, notebooks / "long.ipynb")
    with lab.server(notebooks, tmp_path) as address, lab.browser(tmp_path) as page:
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        lab.open_notebook(page, address, "long.ipynb")
        panel = lab.run_to_first_panel(page)
        panel.get_by_text("goes into your cell itself").wait_for()
        page.evaluate(MANY)
        panel.get_by_role("button", name="Write AutoTokenizer").click()
        page.get_by_text("tfdiag: Verified: Cell 5 ran without an error.").wait_for()
        assert sources(page)[4] == RIGHT
        counts = page.evaluate(COUNTS)
        assert counts[4] == 5 and counts[5:] == [None] * (len(cells) - 4)
        assert wrong == []
