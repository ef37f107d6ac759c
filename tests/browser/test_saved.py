"""A notebook that was saved with a diagnosis, opened again without the kernel that made it."""

from __future__ import annotations

import nbformat
import pytest

from tests.browser import lab

pytestmark = [pytest.mark.browser, pytest.mark.hf, pytest.mark.kernel]
CELLS = ("%load_ext tfdiag", "from transformers import AutoTokenizr")
BARE = ("import sys; sys.modules['anywidget'] = None\n%load_ext tfdiag", *CELLS[1:])
"""Where anywidget is not installed."""
ANSWER = "AutoTokenizer"
BROKEN_LINKS = """panel => [panel, ...panel.querySelectorAll('*')].map(one => getComputedStyle(one, '::before'))
    .filter(before => before.content !== 'none' && before.display !== 'none').length"""
"""Signs that ipywidgets puts before each widget of a former kernel."""


def test_the_diagnosis_is_still_there_and_nothing_looks_broken(tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = notebooks / "saved.ipynb"
    nbformat.write(notebook, path)
    before = path.stat().st_size
    with lab.server(notebooks, tmp_path) as address, lab.browser(tmp_path) as page:
        lab.open_notebook(page, address, "saved.ipynb")
        lab.run_to_first_panel(page)
        lab.command(page, "docmanager:save")
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        lab.open_notebook(page, address, "saved.ipynb")
        answer = page.locator(".tfdiag-answer").first
        answer.wait_for()
        assert ANSWER in answer.inner_text()
        broken = page.get_by_text("Error displaying widget")
        broken.wait_for(state="attached")  # the server's answer: no kernel has the panel any more
        assert not broken.is_visible() and page.get_by_text("Write AutoTokenizer").is_visible()
        assert page.locator(".tfdiag-panel").count() == 0
    assert path.stat().st_size - before < 10_000


@pytest.mark.parametrize(
    ("application", "ends", "cells"),
    [
        ("jupyterlab", "restartKernel()", CELLS),
        ("notebook", "restartKernel()", BARE),
        ("jupyterlab", "shutdown()", BARE),
        ("notebook", "shutdown()", CELLS),
        ("notebook", "changeKernel({name: 'python3'})", CELLS),
    ],
)
def test_the_panel_of_a_former_kernel_has_no_dead_button_and_says_what_to_do(tmp_path, application, ends, cells):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, notebooks / "restarted.ipynb")
    with lab.server(notebooks, tmp_path, application) as address, lab.browser(tmp_path) as page:
        lab.open_notebook(page, address, "restarted.ipynb")
        panel = lab.run_to_first_panel(page)
        if cells is CELLS:
            panel.get_by_text("goes into your cell itself").wait_for()
        page.evaluate(f"() => window.jupyterapp.shell.currentWidget.sessionContext.{ends}")
        panel.locator(".tfdiag-row").first.wait_for(state="hidden")
        assert not [button for button in panel.get_by_role("button").all() if button.is_visible()]
        said = panel.evaluate("panel => getComputedStyle(panel, '::after').content")
        assert panel.evaluate(BROKEN_LINKS) == 0
        assert "run the cell again" in said and page.locator(".tfdiag-answer").is_visible()


SLOW = "import pathlib, time\nif pathlib.Path('slow').exists():\n    time.sleep(120)\nfrom transformers import AutoTokenizr"


def test_a_kernel_restarted_while_a_fix_runs_loses_nothing(tmp_path):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (CELLS[0], SLOW)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, notebooks / "slow.ipynb")
    with lab.server(notebooks, tmp_path) as address, lab.browser(tmp_path) as page:
        lab.open_notebook(page, address, "slow.ipynb")
        panel = lab.run_to_first_panel(page)
        (notebooks / "slow").touch()
        panel.get_by_role("button", name="Write AutoTokenizer").click()
        panel.get_by_role("button", name=lab.TRY).click()
        panel.get_by_text("Running cell 2").wait_for()
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
        panel.locator(".tfdiag-row").first.wait_for(state="hidden")
        assert "run the cell again" in panel.evaluate("panel => getComputedStyle(panel, '::after').content")
        text = "() => window.jupyterapp.shell.currentWidget.model.cells.get(1).sharedModel.getSource()"
        assert page.evaluate(text) == SLOW
        (notebooks / "slow").unlink()
        lab.command(page, "notebook:run-all-cells")
        panel = page.locator(".tfdiag-panel").first
        panel.get_by_role("button", name="Write AutoTokenizer").click()
        panel.get_by_role("button", name=lab.TRY).click()
        panel.get_by_text("Verified").wait_for()
