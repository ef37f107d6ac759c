"""Loading and unloading: one set of hooks, and nothing left behind."""

import logging
import shutil
import sys
import warnings
from pathlib import Path

import IPython.core.magics
import pytest

import tfdiag_ipython
from tests.shell import pack


@pytest.fixture
def short_name(tmp_path, monkeypatch):
    """The module ``tfdiag`` as the wheel ships it."""
    shutil.copy(Path(tfdiag_ipython.__file__).with_name("_tfdiag.py"), tmp_path / "tfdiag.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tfdiag", raising=False)
    yield
    sys.modules.pop("tfdiag", None)


def traces(shell):
    """Everything in which an extension can leave something."""
    logger = logging.getLogger("tfdiag")
    return {
        "callbacks": {name: list(found) for name, found in shell.events.callbacks.items()},
        "cleanup": list(shell.input_transformers_cleanup),
        "post": list(shell.input_transformers_post),
        "ast": list(shell.ast_transformers),
        "line": set(shell.magics_manager.magics["line"]),  # IPython 9 fills its own in when they are first used
        "cell": set(shell.magics_manager.magics["cell"]),
        "registry": {name for name in shell.magics_manager.registry if not hasattr(IPython.core.magics, name)},
        "completers": {key: list(chain) for key, chain in shell.strdispatchers["complete_command"].strs.items()},
        "handlers": {name: list(logging.getLogger(name).handlers) for name in ("", "tfdiag", "transformers", "torch")},
        "logger": (logger.propagate, logger.level),
        "custom": (shell.custom_exceptions, shell.CustomTB),
        "configurables": [thing for thing in shell.configurables if "tfdiag" in type(thing).__module__],
        "showwarning": warnings.showwarning,
        "hooks": (sys.excepthook, sys.displayhook),
    }


def hooks(shell):
    return [callback for found in shell.events.callbacks.values() for callback in found if "tfdiag" in repr(callback)]


def magic(shell, name, line=""):
    return shell.run_line_magic(name, line)


def test_unloading_leaves_the_shell_as_it_was(bare):
    before = traces(bare)
    magic(bare, "load_ext", "tfdiag_ipython")
    assert traces(bare) != before
    bare.run_cell("1/0", store_history=True)
    bare.run_cell("%%tfdiag\n1", store_history=True)
    magic(bare, "unload_ext", "tfdiag_ipython")
    assert traces(bare) == before


def test_a_cell_that_unloads_while_it_is_watched_leaves_nothing(shell, run):
    magic(shell, "unload_ext", "tfdiag_ipython")
    before = traces(shell)
    magic(shell, "load_ext", "tfdiag_ipython")
    run("%%tfdiag\n%unload_ext tfdiag_ipython")
    assert traces(shell) == before


def test_a_magic_of_the_same_name_comes_back(bare):
    bare.register_magic_function(lambda line: "mine", "line", "tfdiag")
    mine = bare.magics_manager.magics["line"]["tfdiag"]
    magic(bare, "load_ext", "tfdiag_ipython")
    assert bare.magics_manager.magics["line"]["tfdiag"] != mine
    magic(bare, "unload_ext", "tfdiag_ipython")
    assert bare.magics_manager.magics["line"]["tfdiag"] == mine


@pytest.mark.parametrize("names", [("tfdiag", "tfdiag_ipython"), ("tfdiag_ipython", "tfdiag"), ("tfdiag", "tfdiag")])
def test_both_names_in_any_order_twice_give_one_set_of_hooks(bare, short_name, names):
    before = traces(bare)
    for name in names:
        magic(bare, "load_ext", name)
    assert len(hooks(bare)) == 2
    magic(bare, "reload_ext", names[0])
    assert len(hooks(bare)) == 2
    magic(bare, "unload_ext", names[1])
    assert traces(bare) == before
    magic(bare, "load_ext", names[0])
    assert len(hooks(bare)) == 2
    magic(bare, "unload_ext", names[0])
    assert traces(bare) == before


def test_the_short_name_offers_the_public_names(short_name):
    import tfdiag

    assert tfdiag.diagnose_text is tfdiag_ipython.diagnose_text
    assert tfdiag.__version__ == tfdiag_ipython.__version__


def test_a_failure_in_the_very_cell_that_loads_is_seen(bare, capsys):
    pack.install()
    bare.run_cell(pack.ASSEMBLE, store_history=True)
    bare.run_cell(f"%load_ext tfdiag_ipython\n{pack.FAILS}", store_history=True)
    assert "The widget of size 7 is broken" in capsys.readouterr().out
    magic(bare, "unload_ext", "tfdiag_ipython")


def test_a_failure_from_before_loading_is_not_spoken_of(bare, capsys):
    pack.install()
    bare.run_cell(f"{pack.ASSEMBLE}\n{pack.FAILS}", store_history=True)
    magic(bare, "load_ext", "tfdiag_ipython")
    bare.run_cell("'fine'", store_history=True)
    assert "The widget" not in capsys.readouterr().out.rpartition("RuntimeError")[2]
    magic(bare, "unload_ext", "tfdiag_ipython")
