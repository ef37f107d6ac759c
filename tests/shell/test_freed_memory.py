"""What the buttons really give back, measured in a kernel: the resident memory of its process before, between and after."""

import pytest

from tests.shell.kernels import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.hf]
pytest.importorskip("torch")

START = """
%load_ext tfdiag_ipython
import torch
from tfdiag_ipython.host_memory import resident
torch.ones(2**20).sum()

def step(rows):
    hidden = [torch.ones(2**20) for _ in range(rows)]
    return torch.empty(2**46)

def click(wanted):
    from tfdiag_ipython.fix import Progress
    from tfdiag_ipython.shell.extension import extension_of
    session = extension_of(get_ipython()).last
    fix = session.diagnoses[0].fix(wanted)
    plan = session.plan(session.diagnoses[0], fix)
    done, verification = session.apply(plan, Progress())
    return fix.label, done, verification.status.value
"""
TRY = "try:\n    step(1)\nexcept RuntimeError: pass"
LEAK = "leak = torch.ones(2**26)\nleak"
DIAGNOSE_LEAK = """
import resource, gc
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, resource.RLIM_INFINITY))
"""


@pytest.fixture
def kernel():
    started = Kernel()
    ran = started.run(START)
    assert ran.reply["status"] == "ok", ran.text
    yield started
    started.close()


def number(kernel, code="print(resident())"):
    return int(kernel.run(code).text)


def test_after_the_button_the_memory_of_the_failed_cell_is_back(kernel):
    kernel.run("step(1)")  # the rules, the panel and their libraries are loaded
    kernel.run("click('free-failed-cell')")
    before = number(kernel)
    assert "MEM002" in kernel.run("step(100)").text
    held = number(kernel)
    assert held > before + 380 * 2**20
    told = kernel.run("click('free-failed-cell')").text
    after = number(kernel)
    assert abs(after - before) <= 0.05 * before, (before, held, after, told)
    assert "Free 400 MiB" in told and "Resident memory:" in told and "verified" in told
    assert "you tried to allocate 281474976710656 bytes" in kernel.run("%tb").text


def test_a_leaked_variable_is_deleted_with_all_that_ipython_keeps_of_it(kernel):
    kernel.run("step(1)")
    kernel.run("click('free-failed-cell')")
    before = number(kernel)
    kernel.run(LEAK)
    kernel.run("same = leak")
    kernel.run(DIAGNOSE_LEAK)
    ran = kernel.run("more = torch.ones(2**25 + 2**20)")
    assert "`leak` holds 256 MiB" in ran.text
    told = kernel.run("click('delete-variable')").text
    after = number(kernel)
    assert abs(after - before) <= 0.05 * before, (before, after, told)
    assert "False" in kernel.run("print('leak' in globals() or 'same' in globals())").text
