"""What the kernel makes of a page's answers: a fix that was not written into the notebook is not proven there, nor taken back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.shell.kernels import ROOT, environment

sys.path.insert(0, str(Path(ROOT) / "tools"))
pytest.importorskip("anywidget", reason="without anywidget no page can write into the notebook")
pytestmark = pytest.mark.kernel
pytestmark = [pytest.mark.kernel, pytest.mark.hf]
WRONG, RIGHT = "AutoTokenizr", "AutoTokenizer"
FAILS = f"kept.append(1)\nfrom transformers import {WRONG}\nkept = {WRONG}.__name__"
FIXED = FAILS.replace(WRONG, RIGHT)
FIX = f"Write {RIGHT} (safe)"
PUT = "Put into the cell"


class Notebook:
    """The page's side of the link: it answers as `cell_link.js` does."""

    def __init__(self, page, cell: str, source: str = FAILS) -> None:
        self.page, self.cell = page, cell
        page.run("kept = []")
        page.run(source, cell)
        self.link = next(model for model, state in page.widgets.items() if "owner" in state)
        page.answer(self.link, {"able": True})

    @property
    def request(self) -> dict:
        return self.page.widgets[self.link]["request"]

    def put(self, outcome: str, label: str = PUT) -> None:
        """Click a fix and have it put there; the page answers so."""
        self.page.click(FIX)
        self.page.click(label)
        self.answer(outcome)

    def answer(self, outcome: str) -> None:
        (cell,) = [change["id"] for change in self.request["changes"]]
        self.page.answer(self.link, {"number": self.request["number"], "outcome": outcome, "id": cell})

    def ran(self, source: str) -> str:
        """What is said under the failing cell when it runs with this text."""
        return "\n".join(shown.get("data", {}).get("text/plain", "") for shown in self.page.run(source, self.cell))


@pytest.fixture(scope="module")
def page():
    from jupyter_client.manager import start_new_kernel
    from page import Page

    manager, client = start_new_kernel(env=environment())
    try:
        page = Page(client)
        page.run("%load_ext tfdiag")
        yield page
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.fixture
def notebook(page, request):
    return Notebook(page, request.node.name)


def test_what_was_put_there_is_verified_by_the_next_run_and_can_be_taken_back(notebook):
    notebook.put("replaced")
    assert "now holds the fix." in notebook.page.text()
    assert "Verified" in notebook.ran(FIXED)
    notebook.page.click("Undo")
    assert notebook.page.value("kept") == "[1, 1]" and notebook.request["changes"][0]["after"] == FAILS


@pytest.mark.parametrize("label", [PUT, f"{PUT} and run"])
@pytest.mark.parametrize(
    ("outcome", "told"),
    [("edited", "was edited since"), ("unable", "This page cannot write into the notebook's cells.")],
)
def test_after_a_refusal_the_next_run_is_the_persons_own(notebook, outcome, told, label):
    notebook.put(outcome, label)
    assert told in notebook.page.text() and FIXED in notebook.page.markup()
    shown = notebook.ran("kept = 'mine'")
    assert "Verified" not in shown and not notebook.page.button("Undo")


def test_a_fix_that_leads_to_another_failure_in_its_cell_can_be_taken_back_there(page):
    notebook = Notebook(page, "fails-on", FAILS + "\nundefined")
    notebook.put("replaced")
    assert "Another failure" in notebook.ran(FIXED + "\nundefined")
    notebook.page.click("Undo")
    assert notebook.request["changes"][0]["after"] == FAILS + "\nundefined"


def test_a_run_that_was_stopped_proves_nothing_and_the_check_stays_due(notebook):
    notebook.put("replaced")
    assert "you stopped" in notebook.ran("raise KeyboardInterrupt")
    assert "Verified" in notebook.ran(FIXED)


def test_a_run_that_fails_while_tfdiag_is_off_is_not_called_verified(notebook):
    notebook.put("replaced")
    notebook.page.run("%tfdiag off")
    shown = notebook.ran(FAILS)
    notebook.page.run("%tfdiag on")
    assert "Still failing" in shown and "misspelt" not in shown


def test_of_a_cell_that_the_person_edited_once_more_nothing_is_taken_back(notebook):
    notebook.put("replaced")
    assert "Verified" in notebook.ran(FIXED + "\nhours = 'of work'")
    assert notebook.page.buttons().keys() != {"Undo"}


def test_where_no_page_answers_the_panel_says_so(notebook):
    notebook.page.click(FIX)
    notebook.page.click(PUT)
    notebook.page.wait_for("No page of this notebook answered")
    assert FIXED in notebook.page.markup() and "Verified" not in notebook.ran("kept = 'mine'")


def test_an_undo_that_is_refused_leaves_the_text_of_every_cell_alone(notebook):
    notebook.page.click(FIX)
    notebook.page.click("Try it here first")
    notebook.answer("replaced")
    first = notebook.page.buttons()["Undo"]
    notebook.page.run("from transformers import AutoModell", "another-cell")
    notebook.page.click("Write AutoModel (safe)")
    notebook.answer("replaced")
    before = notebook.request
    notebook.page.press(first)
    assert "Another cell was run since" in str(notebook.page.widgets)
    assert notebook.request == before
