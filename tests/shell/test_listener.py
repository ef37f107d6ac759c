"""The hook: what it sees, when it speaks, and that its own faults stay its own."""

import logging
import logging.handlers
import re
import sys

import pytest

from tests.shell.pack import ASSEMBLE, FAILS
from tfdiag_ipython.shell.extension import extension_of

SPOKEN = "The widget of size 7 is broken"


@pytest.fixture
def ready(run):
    run(ASSEMBLE)
    return run


@pytest.mark.parametrize(
    "cell",
    [
        FAILS,
        f"get_ipython().run_cell({FAILS!r})",
        f"get_ipython().run_cell({FAILS!r}); 1/1",
        f"%%capture\n{FAILS}",
        f"%%time\n{FAILS}",
        f"%%tfdiag\n{FAILS}",
        f"await_me = 1\n{FAILS}",
        f"import asyncio\nawait asyncio.sleep(0)\n{FAILS}",
        f"try:\n    {FAILS}\nexcept RuntimeError as e:\n    raise ValueError('wrapped') from e",
        f"try:\n    {FAILS}\nfinally:\n    get_ipython().run_cell('')",
    ],
)
def test_each_kind_of_cell_is_diagnosed_once(ready, cell):
    assert ready(cell).count(SPOKEN) == 1


def test_what_a_run_file_raised_is_diagnosed(ready, tmp_path):
    file = tmp_path / "script.py"
    file.write_text(f"{ASSEMBLE}\n{FAILS}\n")
    assert ready(f"%run {file}").count(SPOKEN) == 1


def test_a_member_of_an_exception_group_is_diagnosed(ready):
    if sys.version_info < (3, 11):
        pytest.skip("exception groups came with Python 3.11")
    cell = f"try:\n    {FAILS}\nexcept RuntimeError as e:\n    raise ExceptionGroup('two', [e, ValueError()])"
    assert SPOKEN in ready(cell)


def test_a_succeeding_cell_says_nothing(ready):
    assert ready("7").strip() == "Out[2]: 7"


def test_a_failure_that_no_rule_knows_is_shown_as_without_tfdiag(ready):
    watched = ready("1/0")
    ready("%unload_ext tfdiag_ipython")
    native = ready("1/0")
    ready("%load_ext tfdiag_ipython")
    assert re.sub(r"\d+", "N", watched) == re.sub(r"\d+", "N", native)


def test_the_cell_after_a_failure_says_nothing(ready):
    ready(FAILS)
    assert ready("'fine'").strip().endswith("'fine'")


def test_the_same_exception_raised_again_is_diagnosed_again(ready):
    ready(f"try:\n    {FAILS}\nexcept RuntimeError as e:\n    kept = e")
    assert SPOKEN in ready("raise kept")
    assert SPOKEN in ready("raise kept")


def test_an_exception_shown_by_a_callback_between_cells_is_not_the_next_cells(ready, shell, capsys):
    try:
        shell.user_ns["assemble"](7, "broken")
    except RuntimeError:
        shell.showtraceback()
    assert SPOKEN not in ready("'fine'")


def test_an_error_before_an_empty_nested_cell_is_shown_outside_of_capture(ready):
    cell = f"get_ipython().run_cell('')\nget_ipython().run_cell_magic('capture', '', {FAILS!r})"
    assert ready(cell).count(SPOKEN) == 1


def test_off_and_on(ready):
    ready("%tfdiag off")
    assert SPOKEN not in ready(FAILS)
    assert SPOKEN not in ready("%tfdiag on")
    assert SPOKEN in ready(FAILS)


def test_a_silent_cell_is_left_alone(ready, shell, capsys):
    shell.run_cell(FAILS, silent=True)
    assert SPOKEN not in capsys.readouterr().out


def test_a_cell_outside_the_history_is_diagnosed_as_this_cell(ready, shell, capsys):
    shell.run_cell(FAILS, store_history=False)
    assert SPOKEN in capsys.readouterr().out
    assert extension_of(shell).last.cell.label == "this cell"


HOSTILE = {
    "str raises": "class E(Exception):\n    def __str__(self): raise ValueError('no')\nraise E()",
    "str interrupts": "class E(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise E()",
    "huge": "raise RuntimeError('x' * 100_000_000)",
    "html": "raise RuntimeError('<script>alert(1)</script> the widget is <b>broken</b>')",
    "ansi": "raise RuntimeError('\\x1b[31m\\x1b[2J the widget is gone\\x07')",
    "cyclic": "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a",
    "attributes": "class E(Exception):\n    def __getattribute__(self, name): raise ValueError(name)\nraise E('x')",
    "frozen": "class E(Exception):\n    def __setattr__(self, name, value): raise ValueError(name)\nraise E('x')",
    "slots": "class E(Exception):\n    __slots__ = ()\nraise E('x')",
}


@pytest.fixture
def outcome(shell, capsys):
    """What a cell prints, and the error that leaves ``run_cell`` itself (IPython 7.34 lets some hostile ones through)."""

    def run_one(source):
        capsys.readouterr()
        escaped = ""
        try:
            shell.run_cell(source, store_history=True)
        except BaseException as error:
            escaped = type(error).__name__
        captured = capsys.readouterr()
        return escaped, re.sub(r"\d+", "N", captured.out + captured.err)

    return run_one


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_exception_is_shown_as_without_tfdiag(outcome, kind):
    outcome("%tfdiag off")
    outcome("%unload_ext tfdiag_ipython")
    native = outcome(HOSTILE[kind])
    outcome("%load_ext tfdiag_ipython")
    escaped, watched = outcome(HOSTILE[kind])
    assert escaped == native[0]
    if kind.startswith("str "):  # IPython varies from one time to the next in how much it shows around __str__
        assert watched.count("Traceback") == native[1].count("Traceback")
        assert "Error in callback" not in watched
    else:
        assert watched.startswith(native[1])
        assert watched == native[1] or "TST" in watched
    assert outcome("'fine'")[1].strip().endswith("'fine'")


def test_an_exception_without_a_traceback_is_seen(ready, shell, capsys):
    cell = "get_ipython().showtraceback((RuntimeError, RuntimeError('the widget is lost'), None))"
    assert "The widget is lost" in ready(cell)


def test_a_rule_that_fails_is_logged_and_not_shown(ready, shell):
    persons_own = logging.handlers.BufferingHandler(100)
    logging.getLogger().addHandler(persons_own)
    try:
        shown = ready("raise ValueError('make the rule itself fail')")
    finally:
        logging.getLogger().removeHandler(persons_own)
    assert "TST004" not in shown and shown.count("ValueError: ") == 1
    assert "Rule TST004 failed" in "\n".join(extension_of(shell).journal.entries)
    assert not persons_own.buffer


def test_a_display_that_fails_is_logged_and_not_shown(ready, shell, monkeypatch):
    import tfdiag_ipython.render.text as text

    monkeypatch.setattr(text, "render_text", lambda *_, **__: 1 / 0)
    assert "ZeroDivisionError" not in ready(FAILS)
    assert "ZeroDivisionError" in "\n".join(extension_of(shell).journal.entries)


def test_the_journal_keeps_text_only(shell):
    try:
        raise ValueError("here")
    except ValueError:
        logging.getLogger("tfdiag").exception("a fault")
    (entry,) = extension_of(shell).journal.entries
    assert isinstance(entry, str) and "ValueError: here" in entry


def test_cells_and_their_numbers_are_known(ready, shell):
    ready("%tfdiag config", "x = 1", FAILS)
    session = extension_of(shell).last
    assert session.failure.cell == session.cell.label == "cell 4"
    scene = extension_of(shell).scene(None, session.cell, None)
    assert [cell.number for cell in scene.cells] == [1, 3, 4]
    assert scene.cells[-1].source == FAILS


ASSERTED = "raise RuntimeError('CUDA error: device-side assert triggered')"


@pytest.mark.hf
def test_a_dead_cuda_context_is_remembered(ready, shell, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # as on a machine whose GPU is in use
    ready(ASSERTED, "x = 1")
    assert extension_of(shell).scene(None, None, None).cuda_dead


def test_a_text_about_an_assert_kills_no_cuda_that_is_not_in_use(ready, shell):
    ready(ASSERTED, "x = 1")
    assert not extension_of(shell).scene(None, None, None).cuda_dead
