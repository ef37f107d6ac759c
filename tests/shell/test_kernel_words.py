"""What C code writes to descriptor 2 reaches the diagnosis, and the person as before; the exception stands for the driver's."""

import pytest

from tests.shell.kernels import Kernel

pytestmark = pytest.mark.kernel

WORDS = (
    "/pytorch/aten/src/ATen/native/cuda/Indexing.cu:1290: indexSelectLargeIndex: block: [1,0,0], thread: [{0},0,0] "
    "Assertion `srcIndex < srcSelectDimSize` failed.\\n"
)
WRITES = f"""
import ctypes
libc = ctypes.CDLL(None)
text = "".join("{WORDS}".replace("{{0}}", str(n)) for n in range(300)).encode()
assert libc.write(2, text, len(text)) == len(text)
"""
RAISES = "raise RuntimeError({!r})"
ASSERTED = RAISES.format("CUDA error: device-side assert triggered")
CUBLAS = RAISES.format("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")
NAMED = "An id is outside the embedding"
OWN = "The kernel's own words: srcIndex < srcSelectDimSize (Indexing.cu)"
PREVIEW = """
from tfdiag_ipython.shell.extension import extension_of
session = extension_of(get_ipython()).last
print(session.plan(session.diagnoses[0], session.diagnoses[0].fix("restart-kernel")).preview().text)
"""
ECHO = "import sys\nprint(type(getattr(sys.stderr, 'echo', None)).__module__)"


@pytest.fixture
def kernel(monkeypatch):
    """A kernel as a server starts it: under pytest's own variable ipykernel leaves the descriptors alone."""
    with monkeypatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")
        started = Kernel()
    yield started
    started.close()


def test_the_kernels_words_name_the_operation(kernel):
    kernel.load()
    ran = kernel.run(WRITES + ASSERTED)
    assert NAMED in ran.text and OWN in ran.text
    printed = "".join(body["text"] for kind, body in ran.published if kind == "stream" and body["name"] == "stderr")
    assert printed.count("Assertion `srcIndex") == 300  # not one is lost
    assert [printed.find(f"thread: [{n},0,0]") for n in range(300)] == sorted(
        printed.find(f"thread: [{n},0,0]") for n in range(300)
    )


def test_a_later_library_call_is_explained_by_them(kernel):
    kernel.load()
    kernel.run(WRITES)
    ran = kernel.run(CUBLAS)
    assert "IDX004" in ran.text and OWN in ran.text


def test_the_restart_says_what_to_run_with_the_guard_on(kernel):
    kernel.load()
    kernel.run("x = 1")
    kernel.run(ASSERTED)
    told = kernel.run(PREVIEW).text
    assert "variables are lost" in told and "`%load_ext tfdiag` lists the cells to run again" in told
    assert "the failing one with the index guard on" in told


def test_what_python_prints_is_no_kernels_word(kernel):
    kernel.load()
    ran = kernel.run(f'import sys\nprint("{WORDS}", file=sys.stderr)\n{ASSERTED}')
    assert "IDX004" in ran.text and OWN not in ran.text


def test_another_error_is_left_alone(kernel):
    kernel.load()
    ran = kernel.run(WRITES + RAISES.format("an error of the person's own"))
    assert "IDX004" not in ran.text


def test_unloading_leaves_the_stream_as_it_was(kernel):
    before = kernel.run(ECHO).text
    kernel.load()
    assert "tfdiag" in kernel.run(ECHO).text
    kernel.run("%unload_ext tfdiag_ipython")
    assert kernel.run(ECHO).text == before


def test_forks_and_children_write_as_before(kernel):
    kernel.load()
    ran = kernel.run(
        "import os, subprocess, sys\nprint('parent', file=sys.stderr)\n"
        "subprocess.run([sys.executable, '-c', 'import os; os.write(2, b\"child\\\\n\")'])\n"
        "pid = os.fork()\nif not pid:\n    os.write(2, b'fork\\n')\n    os._exit(0)\nos.waitpid(pid, 0)[1]"
    )
    assert all(word in ran.text for word in ("parent", "child", "fork"))
    assert "IDX004" not in kernel.run("1/0").text
