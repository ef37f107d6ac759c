"""A download onto a disk that is really full."""

import shutil
import subprocess
import sys

import pytest

LOAD = """
import sys
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rules.hub._examples import SERVING
from tfdiag_ipython.rules.hub.cache_not_writable import CacheNotWritable
from tfdiag_ipython.testing import PlainHost
host = PlainHost()
assert host.add(SERVING).failure is None
failure = host.add(f"AutoModel.from_pretrained('acme/tiny-bert', cache_dir={sys.argv[1]!r})").failure
print(Engine(Registry([CacheNotWritable()])).diagnose(failure, host.scene())[0].title)
"""


@pytest.mark.hf
def test_a_full_disk_is_named_with_what_was_needed_and_what_is_left(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=16k none {disk}"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("a small disk cannot be mounted here")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    command = ["unshare", "-rm", "sh", "-c", f"{mount} && exec {sys.executable} {script} {disk}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    title = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-2000:]
    assert title.startswith("The disk is full: model.safetensors needs 2") and str(disk) in title
