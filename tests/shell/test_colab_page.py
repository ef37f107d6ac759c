"""Colab's page, by a stand-in for its documented surface: the fix opens in a scratch cell, which the person clicks and agrees to."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytestmark = [pytest.mark.kernel, pytest.mark.hf]
COLAB = """
import pathlib, sys, tempfile
package = pathlib.Path(tempfile.mkdtemp()) / "google" / "colab"
package.mkdir(parents=True)
(package / "__init__.py").write_text("")
(package / "_frontend.py").write_text("opened = []\\ndef create_scratch_cell(content, bottom_pane=False):\\n    opened.append(content)\\n")
sys.path.insert(0, str(package.parents[1]))
import google.colab
"""
FAILS = "from transformers import BertModell  # mine"


@pytest.fixture
def page():
    from jupyter_client.manager import start_new_kernel
    from page import Page

    manager, client = start_new_kernel()
    try:
        yield Page(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_the_fix_opens_in_a_scratch_cell(page):
    page.run(COLAB)
    page.run("%load_ext tfdiag")
    page.run(FAILS)
    page.click(page.button("Write BertModel"))
    assert "Verified" in page.text()
    page.click(page.button("Open in a scratch cell"))
    (shown,) = [item["data"]["text/plain"] for item in page.run("google.colab._frontend.opened") if "data" in item]
    assert ast.literal_eval(shown) == ["from transformers import BertModel  # mine"]


def test_elsewhere_there_is_no_such_button(page):
    page.run("%load_ext tfdiag")
    page.run(FAILS)
    page.click(page.button("Write BertModel"))
    assert "Verified" in page.text() and not page.button("Open in a scratch cell")
