"""``%%tfdiag``: the cell it wraps runs as it would without it, and what raises nothing is watched."""

import logging
import re
import warnings

import pytest

from tests.shell.pack import ASSEMBLE, FAILS

LINE = "tfdiag watched exceptions, the libraries' own warnings, loads that hang and unmasked padding in cell"


def plain(text):
    """The output without what differs from run to run, and without tfdiag's own line."""
    text = re.sub(r"(?:tfdiag watched|CPU times|Wall time).*\n?|-input-[\w-]+", "", text)
    return re.sub(r"\d+", "N", text).replace("# %%tfdiag", "# %%first")


@pytest.mark.parametrize(
    "cell",
    [
        "1 + 1",
        "x = 5\nx * 2;",
        "import asyncio\nawait asyncio.sleep(0, 'awaited')",
        "%time 3",
        "!echo shell",
        "%%capture out\nprint(1)",
        "\n\n%%capture out\nprint(1)",
        "1/0",
        "def f(:",
        "if True:\nprint(1)",
        "    x = 1\n    x",
        "raise SystemExit",
        "# only a comment",
    ],
)
def test_a_wrapped_cell_shows_what_the_plain_cell_shows(run, cell):
    bare = plain(run(f"# %%first\n{cell}" if not cell.lstrip().startswith("%%") else cell))
    assert plain(run(f"%%tfdiag\n{cell}")) == bare


def test_line_numbers_stay(run):
    assert "line 3" in run("%%tfdiag -q\nx = 1\n1/0").replace("----> 3", "line 3").replace("in <module>", "")


def test_the_reply_and_the_last_result_are_the_cells_own(shell):
    assert shell.run_cell("%%tfdiag\n6 * 7").result == 42
    failed = shell.run_cell("%%tfdiag\n1/0")
    assert isinstance(failed.error_in_exec, ZeroDivisionError)
    assert isinstance(shell.run_cell("%%tfdiag\n1 +").error_before_exec, SyntaxError)


def test_a_clean_cell_ends_with_one_line(run):
    assert run("%%tfdiag\nx = 1").strip() == f"{LINE} 1: nothing to report."
    assert run("%%tfdiag --quiet\nx = 1").strip() == ""


def test_a_failing_cell_gets_its_diagnosis_and_no_line(run):
    shown = run(ASSEMBLE, f"%%tfdiag\n{FAILS}")
    assert "The widget of size 7 is broken" in shown and LINE not in shown


@pytest.mark.parametrize(
    "complain",
    [
        "import warnings; warnings.warn('the widget gathers rust')",
        "import logging; logging.getLogger('transformers.models.widget').warning('the widget gathers %s', 'rust')",
        "import logging; logging.getLogger('huggingface_hub').error('the widget gathers rust')",
    ],
)
def test_a_librarys_warning_is_diagnosed(run, complain):
    shown = run(f"%%tfdiag\n{complain}")
    assert "The widget gathers rust" in shown and LINE not in shown
    assert "TST003" not in run(complain.replace("rust", "dust"))


@pytest.mark.hf
def test_a_warning_that_transformers_shows_once_is_seen_again(run):
    cell = """from transformers.utils import logging as library
library.get_logger('transformers.x').warning_once('the widget gathers rust')"""
    run(cell)
    assert "The widget gathers rust" in run(f"%%tfdiag\n{cell}")


def test_a_warning_that_no_rule_knows_is_counted(run):
    shown = run("%%tfdiag\nimport warnings; warnings.warn('something else')")
    assert "one warning, of which no rule knows anything" in shown


def test_handlers_and_filters_are_left_as_they_were(run):
    before = warnings.showwarning, list(warnings.filters), list(logging.getLogger("transformers").handlers)
    run("%%tfdiag\n1/0", "%%tfdiag\n1", "%%tfdiag\nraise KeyboardInterrupt")
    assert (warnings.showwarning, list(warnings.filters), list(logging.getLogger("transformers").handlers)) == before


def test_a_cell_that_replaces_showwarning_keeps_its_own(run, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    run("%%tfdiag\nimport warnings\nwarnings.showwarning = mine = lambda *a, **k: None\nwarnings.warn('x')")
    assert warnings.showwarning.__name__ == "<lambda>"


def test_completeness_is_judged_on_the_cell_itself(shell):
    assert shell.check_complete("%%tfdiag\nx = 1\n")[0] == "complete"
    assert shell.check_complete("%%tfdiag\nfor x in y:\n")[0] == "incomplete"


def test_called_by_name_it_runs_the_cell(run, shell):
    run("get_ipython().run_cell_magic('tfdiag', '', 'by_name = 1')")
    assert shell.user_ns["by_name"] == 1


GUARDED = "import torch\ntable = torch.nn.Embedding(4, 2)\n"


@pytest.mark.hf
def test_a_guarded_cell_stops_a_bad_index_and_says_what_it_checked(run):
    clean = run(f"%%tfdiag --guard -w warnings\n{GUARDED}table(torch.tensor([3]));")
    assert "and indices (1 checked) in cell 1: nothing to report." in clean
    shown = run(f"%%tfdiag --guard\n{GUARDED}table(torch.tensor([[1, 9]]))")
    assert "GuardedIndexError: tfdiag.guard stopped embedding" in shown
    assert "and the embedding has 4 rows (0 to 3)" in shown
    assert "index out of range in self" in run("table(torch.tensor([9]))")  # the guard is gone with its cell


@pytest.mark.hf
def test_a_mode_that_the_guarded_cell_leaves_open_stays(run):
    assert "torch.float64" in run(
        "import torch\nfrom torch.utils._device import DeviceContext\nmode = DeviceContext('meta')",
        "%%tfdiag --guard -q\nmode.__enter__();",
        "torch.zeros(1, dtype=torch.float64).dtype",
    )
    assert "meta" in run("kind = torch.zeros(1).device; mode.__exit__(None, None, None); print(kind)")
    assert "cpu" in run("torch.zeros(1).device")
