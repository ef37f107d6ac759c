"""A fix that leads to another failure says so, and the diagnosis of that one stands where the fix's output does, with its own buttons."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

pytestmark = [pytest.mark.kernel, pytest.mark.hf]


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


def test_the_second_misspelling_is_diagnosed_when_the_first_is_mended(page):
    page.run("%load_ext tfdiag")
    page.run("from transformers import AutoTokenizr\nfrom transformers import BertModell")
    assert page.messages < 30 and page.traffic < 30_000  # the link to the notebook's text included
    page.click(page.button("Write AutoTokenizer"))
    assert any("Another failure" in str(state.get("value")) for state in page.widgets.values())
    second = page.button("Write BertModel")
    assert second, list(page.buttons())
    page.click(second)
    assert "Verified" in page.text()
    assert [item for item in page.run("BertModel.__name__") if "data" in item]


INSTALLS = """
import sys
from dataclasses import replace
from tfdiag_ipython.fixes.install import InstallPackages
from tfdiag_ipython.render.panel import make_panel
from tfdiag_ipython.shell.extension import extension_of
class Installs(InstallPackages):
    command = [sys.executable, "-c", ""]
session = extension_of(get_ipython()).last
cell = replace(session.cell, source="from transformers import BertModell")
session.plan = lambda diagnosis, fix: Installs(session._host, ("timm",), reruns=(cell,), failure=session.failure)
display(make_panel(session).bundle, raw=True)
"""
"""Stands for a fix that works beside the program: what the cell does then is checked by one more click."""


def test_a_check_that_follows_an_install_diagnoses_what_it_finds_once(page):
    page.run("%load_ext tfdiag")
    page.run("from transformers import AutoTokenizr\nfrom transformers import BertModell")
    page.run(INSTALLS)
    page.click(page.button("Write AutoTokenizer"))
    page.click("Apply")
    page.wait_for("Pending")
    page.click("Check it now")
    shown = [str(state.get("value")) for state in page.widgets.values()]
    assert sum("Another failure" in value for value in shown) == 1
    assert page.button("Write BertModel")
