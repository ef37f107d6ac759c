"""What is installed comes from tfdiag's own table; which release of it, from what can be a version only."""

import sys
import threading

import pytest

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Cancelled, Progress
from tfdiag_ipython.fixes.install import InstallPackages
from tfdiag_ipython.testing import PlainHost


def test_a_release_that_will_do_is_asked_for():
    plan = InstallPackages(PlainHost(), ("accelerate", "PIL"), releases={"accelerate": ">=1.1.0"})
    assert plan.command[-2:] == ["accelerate>=1.1.0", "pillow"]
    assert "'accelerate>=1.1.0' pillow" in plan.preview().text  # quoted: a shell would redirect


@pytest.mark.parametrize("text", ["1.0 --index-url x", ">=1 @ file:///tmp/x", "; rm", "[extra]"])
def test_what_is_no_version_reaches_no_command_line(text):
    with pytest.raises(PlanError):
        InstallPackages(PlainHost(), ("accelerate",), releases={"accelerate": text})


def test_a_package_outside_the_table_is_refused():
    with pytest.raises(PlanError):
        InstallPackages(PlainHost(), ("left_pad",))


SILENT_PIP = """
import pathlib, sys, time
try:
    print('Downloading torch', flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[1]).write_text('put back')
"""


def test_cancel_ends_a_silent_download_and_lets_pip_put_back_what_it_had_removed(tmp_path):
    class Silent(InstallPackages):
        command = [sys.executable, "-c", SILENT_PIP, str(tmp_path / "end")]

    downloading = threading.Event()
    progress = Progress(lambda text, fraction: downloading.set() if "Downloading" in text else None)
    ended = []

    def install():
        with pytest.raises(Cancelled):
            Silent(PlainHost(), ("torch",)).execute(progress)
        ended.append((tmp_path / "end").read_text())

    installing = threading.Thread(target=install, daemon=True)
    installing.start()
    assert downloading.wait(60)
    progress.cancel()
    installing.join(60)
    assert ended == ["put back"]
