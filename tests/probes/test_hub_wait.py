"""What a hanging load waits for, read from its frames: each wait is a real one, and is interrupted as a person would."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.hub_server import fake_hub
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Cell, Scene
from tfdiag_ipython.probes.hub_wait import HubWaitProbe, stage
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rules.hub.hub_unreachable import HubUnreachable
from tfdiag_ipython.rules.hub.load_interrupted import LoadInterrupted
from tfdiag_ipython.watch.hub_silence import frames_of

pytestmark = pytest.mark.hf


@contextlib.contextmanager
def silent(mode):
    """An address at which the load hangs in this way."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0 if mode == "connect" else 50))
        place = f"127.0.0.1:{server.getsockname()[1]}"
        if mode == "connect":  # nobody accepts, and the queue is full: packets are dropped, as by a firewall
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect(server.getsockname())
        elif mode == "pause":
            server.close()
        yield place


@contextlib.contextmanager
def interrupted(wanted, then=lambda: None):
    """Interrupts this thread as soon as it stands where it waits for ``wanted``, and does ``then`` afterwards."""
    main, done = threading.get_ident(), threading.Event()

    def press_stop():
        until = time.monotonic() + 30
        while not done.wait(0.05) and time.monotonic() < until:
            if stage(frames_of(main)) == wanted:
                break
        if not done.is_set():
            signal.pthread_kill(main, signal.SIGINT)
            then()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press_stop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, before)


def load(address, cache):
    import huggingface_hub

    huggingface_hub.hf_hub_download("acme/tiny", "config.json", endpoint=address, cache_dir=cache, etag_timeout=25)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def diagnose(error):
    rules = Registry([LoadInterrupted(), HubUnreachable()])
    failure = Failure.from_exception(error)
    scene = Scene({}, exception=error, cells=[Cell(1, "load()", "", 31.4)])
    return HubWaitProbe().look(failure, scene), Engine(rules).diagnose(failure, scene)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("connect", "waited for a connection to {place}"),
        ("tls", "waited for the TLS handshake with {place}"),
        ("read", "waited for an answer from {place}"),
        ("pause", "waited to try {place} again"),
    ],
)
def test_what_a_load_waited_for(mode, words, tmp_path):
    with silent(mode) as place, pytest.raises(KeyboardInterrupt) as caught, interrupted(mode):
        load(f"{'https' if mode == 'tls' else 'http'}://{place}", tmp_path)
    seen, (first,) = diagnose(caught.value)
    assert first.code == "HUB006" and first.title.startswith("Interrupted after 31 s while it ")
    assert words.format(place=place) in first.title and "(config.json)" in first.title
    assert seen["method"] == "HEAD" and seen["tries"] >= 1
    if mode != "pause":
        assert seen["limit"] == 25


def test_the_lock_of_another_download(tmp_path):
    from huggingface_hub.utils import WeakFileLock

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "config.json").write_text("{}")

    lock = tmp_path / "cache" / ".locks" / "models--acme--tiny" / "config.json-1.lock"
    lock.parent.mkdir(parents=True)
    with fake_hub(tmp_path / "served") as server, WeakFileLock(lock):
        with pytest.raises(KeyboardInterrupt) as caught, interrupted("lock"):
            load(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache")
    seen, (first,) = diagnose(caught.value)
    assert "waited for another download of this file to end (config.json)" in first.title
    assert seen["lock"] == str(lock)


def test_other_waits_are_none_of_the_hubs(tmp_path):
    with silent("read") as place, pytest.raises(KeyboardInterrupt) as caught:
        with socket.create_connection(place.split(":")) as plain, interrupted(""):
            time.sleep(0.2)
            plain.makefile().readline()
    seen, found = diagnose(caught.value)
    assert not seen and found == []


STALLED_NAMES = """
import fcntl, os, pathlib, socket, struct, subprocess, tempfile
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:  # the loopback of this network of its own is down at first
    fcntl.ioctl(plain, 0x8914, struct.pack("16sH14x", b"lo", 0x41))
mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mute.bind(("127.0.0.1", 53))
names = pathlib.Path(tempfile.mkdtemp(), "resolv.conf")
names.write_text("nameserver 127.0.0.1\\noptions timeout:2 attempts:1\\n")
subprocess.run(["mount", "--bind", names, os.path.realpath("/etc/resolv.conf")], check=True)
os.environ["HF_ENDPOINT"] = "http://hub.example.org"
from tests.probes.test_hub_wait import diagnose, interrupted, load
try:
    with interrupted("resolve"):
        load("http://hub.example.org", tempfile.mkdtemp())
except KeyboardInterrupt as error:
    seen, (first,) = diagnose(error)
    print(first.code, first.certainty.value, first.title)
"""
"""In a network of its own, where the name server takes every question and never answers."""


def test_a_name_server_that_does_not_answer(tmp_path):
    apart = ["unshare", "--map-root-user", "--mount", "--net"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("needs Linux, and the right to make a network of its own")
    online = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    }
    root = str(Path(__file__).parents[2])
    child = subprocess.run(
        [*apart, sys.executable, "-c", STALLED_NAMES], cwd=root, env=online, capture_output=True, text=True, timeout=120
    )
    assert child.stdout.startswith("HUB006 confirmed"), child.stderr
    assert "while it waited for the name of hub.example.org to be resolved" in child.stdout


def test_a_snapshot_whose_file_does_not_come(tmp_path):
    import huggingface_hub

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "stalled.json").write_text("{}")
    with fake_hub(tmp_path / "served") as server:
        place = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(KeyboardInterrupt) as caught, interrupted("threads", lambda: server.release()):
            huggingface_hub.snapshot_download("acme/tiny", endpoint=place, cache_dir=tmp_path / "cache")
    _, (first,) = diagnose(caught.value)
    assert f"waited for the downloads of a snapshot from {place.removeprefix('http://')}" in first.title
