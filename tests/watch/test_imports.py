"""A module's import is told while somebody waits for it, and the import system is left as it was."""

import importlib
import sys

import pytest

from tfdiag_ipython.watch.imports import after_import


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "awaited_module.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "awaited_module"
    sys.modules.pop("awaited_module", None)


def test_told_when_it_is_imported_and_ready(module):
    told, finders = [], list(sys.meta_path)
    with after_import(module, lambda imported: told.append(imported.value)):
        assert importlib.import_module(module).value == 3
    assert told == [3] and sys.meta_path == finders


def test_told_at_once_when_it_is_loaded_already(module):
    importlib.import_module(module)
    told = []
    with after_import(module, lambda imported: told.append(imported.value)):
        assert told == [3]


def test_nothing_is_told_afterwards_and_a_fault_costs_nothing(module):
    told, finders = [], list(sys.meta_path)
    with after_import(module, told.append):
        pass
    with after_import("no_such_module_here", told.append), pytest.raises(ImportError):
        importlib.import_module("no_such_module_here")
    with after_import(module, lambda imported: 1 / 0):
        assert importlib.import_module(module).value == 3
    assert told == [] and sys.meta_path == finders
