"""The project's notebooks, as people keep them: exported to HTML and Markdown, and what a diagnosis adds to the file."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
DIAGNOSED = [path for path in NOTEBOOKS if path.stem != "what_fits"]  # where nothing is wrong
SIZE = 10_000
"""Bytes that one diagnosis may add to a saved notebook, its buttons included."""


def diagnosed(notebook):
    """For each cell with a diagnosis the outputs that tfdiag added, and its first line."""
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        ours = [output for output in outputs if "tfdiag-answer" in output.get("data", {}).get("text/html", "")]
        views = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
        if ours:
            yield [*ours, *views], len(ours), ours[0]["data"]["text/plain"].splitlines()[0]


def words(text):
    """The letters and digits of a title, however it is set."""
    return re.sub(r"\W+", "", html.unescape(text))


@pytest.mark.parametrize("path", DIAGNOSED, ids=lambda path: path.stem)
def test_a_diagnosis_adds_little_to_a_saved_notebook(path):
    found = list(diagnosed(nbformat.read(path, as_version=4)))
    assert found
    for outputs, count, title in found:
        assert len(json.dumps(outputs, indent=1, ensure_ascii=False).encode()) < SIZE * count, title


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("exporter", ["HTMLExporter", "MarkdownExporter"])
def test_an_exported_notebook_keeps_each_diagnosis_once(path, exporter):
    nbconvert = pytest.importorskip("nbconvert")
    found = list(diagnosed(nbformat.read(path, as_version=4)))
    page, _ = getattr(nbconvert, exporter)().from_filename(str(path))
    answers = re.findall(r'<p [^>]*class="tfdiag-answer".*?</p>', page, re.DOTALL)
    assert len(answers) == sum(count for _, count, _ in found)
    for _, _, title in found:
        assert sum(words(title) in words(re.sub(r"<[^>]+>", "", answer)) for answer in answers) == 1, (title, answers)
    assert "Error displaying widget" not in page and "Error rendering" not in page
    assert "application/vnd.jupyter.widget-view+json" not in page
