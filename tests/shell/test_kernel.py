"""Over the Jupyter protocol: the messages of each kind of cell are the same with tfdiag and without."""

import re
import sys

import pytest

from tests.shell.kernels import Kernel, Ran, alike, streams_joined
from tests.shell.pack import ASSEMBLE, FAILS

pytestmark = pytest.mark.kernel

HOSTILE = "class E(Exception):\n    def __str__(self): raise ValueError('no')\nraise E()"
GROUP = "raise ExceptionGroup('two', [ValueError('the first'), OSError('the second')])"
CYCLE = "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a"
BARE = "get_ipython().showtraceback((ValueError, ValueError('no traceback'), None))"
CELLBACK = (
    "def fails_once():\n    get_ipython().events.unregister('post_execute', fails_once)\n    1/0\n"
    "get_ipython().events.register('post_execute', fails_once)"
)
THREAD = "import threading\nt = threading.Thread(target=lambda: 1/0)\nt.start()\nt.join()"
LAST = "import sys\nprint(sys.last_type, repr(sys.last_value)[:60], sys.last_traceback is not None, In[-2][:30])"
WAITS = "import time\nprint('started', flush=True)\ntime.sleep(30)"
WAITS_ASYNC = "import asyncio\nprint('started', flush=True)\nawait asyncio.sleep(2)"
SCRIPT = "from pathlib import Path\nimport tempfile\nscript = Path(tempfile.gettempdir()) / 'tfdiag_fails.py'\n"

CELLS = {
    "succeeds": "x = 3\nprint(x)\nx",
    "plain": "def f(x):\n    return 1 / x\nf(0)",
    "syntax": "def f(:",
    "indentation": "if True:\nprint(1)",
    "exit": "raise SystemExit('leaving')",
    "sys.exit": "import sys\nsys.exit(3)",
    "keep the kernel": "exit(keep_kernel=True)",
    "await": "import asyncio\nawait asyncio.sleep(0)\n1/0",
    "awaited value": "import asyncio\nawait asyncio.sleep(0, 'value')",
    "chained": "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('wrapped') from e",
    "%run": SCRIPT
    + "script.write_text('def g():\\n    1/0\\ng()\\n')\nget_ipython().run_line_magic('run', str(script))",
    "%%time": "%%time\n1/0",
    "%%capture": "%%capture\n1/0",
    "%%bash": "%%bash\necho out\nexit 3",
    "%%tfdiag-like magic": "%%nosuchmagic\n1",
    "usage": "%load_ext",
    "!": "!echo shell; exit 2",
    "nested": "get_ipython().run_cell('1/0')\nprint('after')",
    "nested empty": "get_ipython().run_cell('')\n1/0",
    "empty": "",
    "blank": "  \n ",
    "comment": "# nothing",
    "callback": CELLBACK,
    "thread": THREAD,
    "help": "print?",
    "html": "raise ValueError('<script>alert(1)</script>')",
    "ansi": "raise ValueError('\\x1b[2J\\x07 control')",
    "large": "raise ValueError('x' * 3_000_000)",
    "cyclic": CYCLE,
    "no traceback": BARE,
    "last": LAST,
    "%tb": "%tb",
    "display fails": "class R:\n    def _repr_html_(self): 1/0\n    def __repr__(self): return 'r'\nR()",
    "repr fails": "class R:\n    def __repr__(self): 1/0\nR()",
    "system error": "import os\nos.stat('/nonexistent/file')",
    "after all": "7",
}
if sys.version_info >= (3, 11):
    CELLS["group"] = GROUP


@pytest.fixture(scope="module")
def kernels():
    """A bare kernel and one with tfdiag, which run the same cells in the same order."""
    bare, watched = Kernel(), Kernel()
    watched.load()
    bare.run("pass", store_history=False)
    yield bare, watched
    bare.close()
    watched.close()


def assert_same(bare: Ran, watched: Ran) -> None:
    assert alike(watched.reply) == alike(bare.reply)
    assert alike(streams_joined(watched.published)) == alike(streams_joined(bare.published))


@pytest.mark.parametrize("kind", CELLS)
def test_the_messages_of_a_cell_are_the_same(kernels, kind):
    assert_same(*(kernel.run(CELLS[kind]) for kernel in kernels))


def test_a_failure_that_cannot_be_printed_is_the_same(kernels):
    """IPython itself varies from one time to the next in how much of the class around ``__str__`` it shows."""
    bare, watched = (kernel.run(HOSTILE) for kernel in kernels)
    assert (watched.kinds, watched.reply["status"]) == (bare.kinds, bare.reply["status"])
    assert watched.text.count("Traceback") == bare.text.count("Traceback")


@pytest.mark.parametrize("content", [{"silent": True}, {"store_history": False}, {"user_expressions": {"x": "1/0"}}])
def test_the_messages_of_an_unusual_request_are_the_same(kernels, content):
    for cell in ("1/0", "2"):
        assert_same(*(kernel.run(cell, **content) for kernel in kernels))


@pytest.mark.parametrize("cell", [WAITS, WAITS_ASYNC])
def test_an_interrupted_cell_is_the_same(kernels, cell):
    bare, watched = (kernel.run(cell, interrupt_at="started") for kernel in kernels)
    assert watched.reply["status"] == bare.reply["status"] == "error"
    assert watched.reply["ename"] == bare.reply["ename"]
    assert watched.kinds == bare.kinds, watched.text
    assert_same(*(kernel.run("'alive'") for kernel in kernels))


@pytest.mark.parametrize(
    "cell", ["1/0", "6 * 7", "import asyncio\nawait asyncio.sleep(0, 5)", "def f(:", "%%time\n1/0"]
)
def test_a_cell_under_the_cell_magic_replies_as_the_plain_cell(kernels, cell):
    bare, watched = kernels
    plain, wrapped = bare.run(cell), watched.run(f"%%tfdiag -q\n{cell}")
    for key in ("status", "ename", "execution_count"):
        assert wrapped.reply.get(key) == plain.reply.get(key)
    assert [entry for entry in wrapped.kinds if entry != "stream"] == [k for k in plain.kinds if k != "stream"]


def test_a_bad_option_of_the_cell_magic_is_an_error_reply_and_runs_nothing(kernels):
    _, watched = kernels
    ran = watched.run("%%tfdiag --wach\nmark_of_the_cell = 1")
    assert ran.reply["status"] == "error" and ran.reply["ename"] == "UsageError"
    assert ran.text.strip() == "UsageError: %%tfdiag has no option '--wach'. Did you mean --watch?"
    assert watched.run("'mark_of_the_cell' in globals()").displays("text/plain") == ["False"]
    kernels[0].run("1/0"), kernels[0].run("1")


@pytest.mark.parametrize(
    "wrapper", ["{}", "%%tfdiag\n{}", "%%time\n{}", "%%capture\n{}", "import asyncio\nawait asyncio.sleep(0)\n{}"]
)
def test_a_known_failure_gets_a_durable_diagnosis_after_the_untouched_error(kernels, wrapper):
    bare, watched = kernels
    for kernel in kernels:
        kernel.run(ASSEMBLE)
    cell = wrapper.format(FAILS)
    plain, known = bare.run(cell.replace("%%tfdiag", "# %%tfdiag")), watched.run(cell)
    assert alike(known.reply) == alike(plain.reply)
    native = len(streams_joined(plain.published))
    published = streams_joined(known.published)
    assert alike(published[:native]) == alike(streams_joined(plain.published))
    extra = [content for kind, content in published[native:] if kind == "display_data"]
    assert "The widget of size 7 is broken" in extra[0]["data"]["text/html"]
    assert "The widget of size 7 is broken" in extra[0]["data"]["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" not in extra[0]["data"]
    assert sum("The widget of size" in str(content["data"]) for content in extra) == 1


def test_the_panel_can_be_switched_off(kernels):
    _, watched = kernels
    watched.run("%tfdiag config panel=off")
    known = watched.run(FAILS)
    assert known.displays("text/html") and not known.displays("application/vnd.jupyter.widget-view+json")
    watched.run("%tfdiag config panel=on")


def test_completion_comes_over_the_protocol(kernels):
    _, watched = kernels
    watched.client.complete("%tfdiag expl", 12)
    while True:
        reply = watched.client.get_shell_msg(timeout=30)
        if reply["msg_type"] == "complete_reply":
            break
    assert "explain" in reply["content"]["matches"]


def test_the_cells_id_is_known_and_settles_a_check(kernels):
    _, watched = kernels
    watched.run(FAILS, cell_id="the-cell")
    watched.run(
        "from tfdiag_ipython.shell.extension import extension_of\nlast = extension_of(get_ipython()).last\nlast.expect();"
    )
    assert watched.run("last.cell.id").displays("text/plain") == ["'the-cell'"]
    assert "Verified" in watched.run("assemble(7)", cell_id="the-cell").text
    assert "Verified" not in watched.run("assemble(7)", cell_id="the-cell").text


def test_the_debugger_finds_the_failure(kernels):
    for kernel in kernels:
        kernel.run("def broken(x):\n    return 1 / x\nbroken(0)")
        shown = re.sub(r"\x1b\[[\d;]*m", "", kernel.run("%debug", answers=("p x", "q")).text)
        assert "return 1 / x" in shown
