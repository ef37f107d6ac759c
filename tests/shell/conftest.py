"""A real shell for each test, and a look at everything that an extension can leave behind in it."""

from __future__ import annotations

import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.shell import pack


@pytest.fixture
def bare(monkeypatch):
    """A shell without tfdiag."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        monkeypatch.delattr(sys, name, raising=False)
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    config.HistoryManager.enabled = True
    config.InteractiveShell.colors = "NoColor" if InteractiveShell.colors.default_value != "nocolor" else "nocolor"
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config)
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(bare):
    """A shell with tfdiag and the tests' own rules."""
    pack.install()
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    yield bare
    bare.run_line_magic("unload_ext", "tfdiag_ipython")


@pytest.fixture
def run(shell, capsys):
    """Run cells as a person does; returns what the last one printed."""

    def run_cells(*sources: str) -> str:
        for source in sources:
            capsys.readouterr()
            shell.run_cell(source, store_history=True)
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run_cells
