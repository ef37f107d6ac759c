"""A kernel that is killed in the middle of a cell: the next one says which cell it was, and what it had before."""

import os
import signal
import time

import pytest

from tests.shell.kernels import LOAD, Kernel
from tfdiag_ipython.shell.crumb import Crumb

pytestmark = pytest.mark.kernel

ALLOCATES = (
    "rows = [bytearray(2**20) for _ in range(8)]  # then waits\nimport time; print('here', flush=True); time.sleep(60)"
)


@pytest.fixture
def kernel():
    started = Kernel()
    yield started
    started.close()


def note_of(kernel):
    return kernel.manager.connection_file.replace(".json", ".tfdiag")


def wait_for(text, kernel):
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "stream" and text in message["content"]["text"]:
            return


def start_again(kernel, **how):
    kernel.client.stop_channels()
    kernel.manager.restart_kernel(**how)
    kernel.client = kernel.manager.client()
    kernel.client.start_channels()
    kernel.client.wait_for_ready(timeout=60)
    return kernel.run(LOAD)


def test_after_a_kill_the_next_kernel_names_the_cell_and_the_memory_before(kernel):
    kernel.load()
    kernel.run("x = 1")
    kernel.client.execute(ALLOCATES)
    wait_for("here", kernel)
    os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    told = start_again(kernel, now=True).text
    assert "The kernel ended without a word in cell 2 (`rows = [bytearray(2**20) for _ in" in told
    assert "○ possible · MEM006" in told and "resident before the cell" in told
    assert "MEM006" not in start_again(kernel, now=True).text  # told once


def test_a_kernel_that_is_restarted_by_hand_leaves_nothing_to_tell(kernel):
    kernel.load()
    kernel.run("x = 1")
    assert os.path.exists(note_of(kernel))
    kernel.client.execute("import time; print('here', flush=True); time.sleep(60)")
    wait_for("here", kernel)
    assert "MEM006" not in start_again(kernel, now=False).text


def test_a_kernel_that_is_killed_between_cells_leaves_nothing_to_tell(kernel):
    kernel.load()
    kernel.run("x = 1")
    assert "MEM006" not in start_again(kernel, now=True).text


def test_a_kernel_that_ends_as_it_should_removes_its_note(kernel):
    kernel.load()
    kernel.run("x = 1")
    note = note_of(kernel)
    assert os.path.exists(note) and os.stat(note).st_mode & 0o777 == 0o600
    kernel.run("%unload_ext tfdiag_ipython")
    assert not os.path.exists(note)
    kernel.load()
    kernel.run("x = 1")
    kernel.client.shutdown()
    for _ in range(100):
        if not os.path.exists(note):
            break
        time.sleep(0.1)
    assert not os.path.exists(note)


@pytest.mark.parametrize("content", ["", " half a note", '{"cell": 1', "[]", "{}\x00"])
def test_a_note_that_is_no_note_is_passed_by(tmp_path, content):
    file = tmp_path / "kernel-1.tfdiag"
    file.write_text(content)
    assert Crumb(file).take() is None


def test_notes_of_kernels_that_are_gone_are_swept_up(tmp_path):
    (tmp_path / "kernel-gone.tfdiag").write_text("{}")
    (tmp_path / "kernel-lives.tfdiag").write_text("{}")
    (tmp_path / "kernel-lives.json").write_text("{}")
    crumb = Crumb(tmp_path / "kernel-new.tfdiag")
    crumb.begin("x = 1", 1)
    assert sorted(file.name for file in tmp_path.glob("*.tfdiag")) == ["kernel-lives.tfdiag", "kernel-new.tfdiag"]
    crumb.close()
