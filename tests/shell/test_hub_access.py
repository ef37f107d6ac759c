"""In a real kernel against a Hub on this machine: each cause behind the same message is told apart, and the fix works from the cache."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess

import pytest

from tests.hub_server import FAULTS, fake_hub
from tests.shell.kernels import Kernel

pytestmark = [pytest.mark.hf, pytest.mark.kernel]

SETUP = """
import os
os.environ.update(HF_HOME={home!r}, HF_ENDPOINT={endpoint!r})
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
    os.environ.pop(name, None)
import pathlib, shutil, huggingface_hub.utils._http as http
class Clock:
    time, sleep = staticmethod(http.time.time), staticmethod(lambda seconds: None)  # no pauses between the five tries
http.time = Clock
from huggingface_hub import constants, hf_hub_download
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.shell.extension import extension_of
folder = {folder!r}
BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)).save_pretrained(folder)
words = Tokenizer(models.WordLevel({{"[UNK]": 0, "film": 1}}, unk_token="[UNK]"))
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)
AutoModel.from_pretrained("acme/tiny"); AutoTokenizer.from_pretrained("acme/tiny")
"""
APPLY = """
session = extension_of(get_ipython()).diagnosed
plan = session.plan(session.diagnoses[0], session.diagnoses[0].fix({fix!r}))
print(plan.preview().text)
print(session.apply(plan, Progress())[1].status.value)
{then}
"""
CACHE = "cache = pathlib.Path(constants.HF_HUB_CACHE)\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    with fake_hub(folder) as server:
        yield folder, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def kernel(served, tmp_path_factory):
    folder, endpoint = served
    running = Kernel()
    try:
        running.load()
        home = str(tmp_path_factory.mktemp("home"))
        ran = running.run(SETUP.format(home=home, endpoint=endpoint, folder=str(folder)))
        assert ran.reply["status"] == "ok", ran.text
        running.run("%tfdiag config budget=5")  # what is looked at is under test, not how fast this machine is
        yield running
    finally:
        running.close()


def title(ran):
    """The first line of the first diagnosis, however it was broken into lines; empty where none was shown."""
    shown = [text for text in ran.displays("text/plain") if "HUB" in text]
    return " ".join(shown[0].split("\n●")[0].split()) if shown else ""


def apply(kernel, fix, then="plan.undo()"):
    ran = kernel.run(APPLY.format(fix=fix, then=then), store_history=False)
    assert ran.reply["status"] == "ok", ran.text
    return ran.text


WORDS = {
    "gateway": r"answered HTTP 401",
    "forbidden": r"answered HTTP 403",
    "gated": r"`gated/tiny` is gated",
    "unknown": r"`unknown/tiny` is neither a folder here nor a repository",
    "limited": r"answered HTTP 429 \(too many requests\)",
    "broken": r"answered HTTP 500",
    "busy": r"answered HTTP 503",
    "portal": r"something else answered in its place",
    "redirect": r"something else answered in its place",
}


@pytest.mark.parametrize("owner", FAULTS)
def test_what_the_hub_answered_is_told_and_the_cache_helps(kernel, owner):
    load = f"AutoTokenizer.from_pretrained('{owner}/tiny')"
    empty = kernel.run(load)
    assert re.search(WORDS[owner], title(empty)), empty.text
    copy = f"shutil.copytree(cache / 'models--acme--tiny', cache / 'models--{owner}--tiny', symlinks=True)"
    copied = kernel.run(CACHE + copy)
    assert copied.reply["status"] == "ok", copied.text
    full = kernel.run(load)
    if full.reply["status"] == "ok":  # this version is content with the cache
        return
    assert "is in the local cache" in title(full), full.text
    assert "verified" in apply(kernel, "go-offline")


def test_a_revision_and_a_file_that_the_repository_lacks(kernel):
    assert "No revision `v9` in `acme/tiny`" in title(
        kernel.run("AutoConfig.from_pretrained('acme/tiny', revision='v9')")
    )
    assert "No notes.txt found for `acme/tiny`" in title(kernel.run("hf_hub_download('acme/tiny', 'notes.txt')"))


def test_a_blank_beside_a_revision_is_seen(kernel):
    ran = kernel.run("AutoConfig.from_pretrained('acme/tiny', revision=' main')")
    assert "The revision ' main' of `acme/tiny` has a blank beside its name" in title(ran), ran.text


def test_a_token_with_a_line_break_is_told_and_not_shown(kernel):
    ran = kernel.run("hf_hub_download('acme/tiny', 'config.json', token='hf_s3cretpw\\n', force_download=True)")
    assert "The token passed as `token=` has a line break or a blank in it" in title(ran), ran.text
    assert "s3cretpw" not in "".join(ran.displays("text/plain"))


def test_a_file_that_a_mirror_with_a_login_lacks(kernel, served):
    endpoint = served[1].replace("//", "//erin:s3cretpw@")
    ran = kernel.run(f"hf_hub_download('acme/tiny', 'notes.txt', endpoint={endpoint!r})")
    assert "No notes.txt found for `acme/tiny`" in title(ran), ran.text


def test_a_certificate_that_nobody_here_trusts(kernel, served, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "pem")]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem", tmp_path / "key")
    with fake_hub(served[0]) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        place = f"127.0.0.1:{server.server_port}"
        ran = kernel.run(f"hf_hub_download('acme/other', 'config.json', endpoint='https://{place}')")
    assert f"{place} could not be reached: its TLS certificate is not trusted here" in title(ran), ran.text


LOGIN = """
login = {address!r}
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").partition(".")[0] in ("huggingface_hub", "transformers"):
        for name, value in list(vars(module).items()):
            if isinstance(value, str) and value.startswith({endpoint!r}):
                setattr(module, name, value.replace({endpoint!r}, login, 1))
"""
STORED = """
import json
from tfdiag_ipython.shell.extension import extension_of
session = extension_of(get_ipython()).diagnosed
print(repr(session.diagnoses), json.dumps([one.to_dict() for one in session.diagnoses], default=repr), session.report())
"""


@pytest.mark.parametrize("prefix", ["", "htps://"])
def test_a_login_in_the_hubs_address_is_kept_and_never_shown(kernel, served, prefix):
    place = served[1].partition("//")[2]
    address = f"{prefix}erin:s3cretpw@{place}"
    assert kernel.run("import sys" + LOGIN.format(address=address, endpoint=served[1])).reply["status"] == "ok"
    try:
        ran = kernel.run("path = hf_hub_download('acme/tiny', 'config.json', force_download=True)")
        shown = [text for kind in ("text/plain", "text/html") for text in ran.displays(kind)]
        assert f"HF_ENDPOINT is `{prefix}{place}`, which is no web address" in title(ran), ran.text
        assert "s3cretpw" not in "".join(shown)
        assert "s3cretpw" not in kernel.run(STORED).text
        told = apply(
            kernel,
            "set-endpoint",
            "print(os.environ['HF_ENDPOINT'] == constants.ENDPOINT, len(constants.ENDPOINT)); plan.undo()",
        )
        assert "verified" in told and "<credentials>@" in told and "s3cretpw" not in told
        assert f"True {len(f'http://erin:s3cretpw@{place}')}" in told
        assert "True" in kernel.run(f"print(constants.ENDPOINT == {address!r})").text
    finally:
        kernel.run("import sys" + LOGIN.format(address=served[1], endpoint=address))


HANG = "# load\nprint('asked', flush=True)\nAutoTokenizer.from_pretrained('silent/tiny')"


def test_a_load_that_hangs_says_so_while_it_is_watched_and_what_it_waited_for_when_it_is_stopped(kernel):
    kernel.run(CACHE + "shutil.copytree(cache / 'models--acme--tiny', cache / 'models--silent--tiny', symlinks=True)")
    kernel.run("import tfdiag_ipython.watch.hub_silence as watch\nwatch.PATIENCE = 1.0")
    ran = kernel.run(f"%%tfdiag\n{HANG}", interrupt_at="tfdiag: silent for")
    said = next(body["text"] for kind, body in ran.published if kind == "stream" and "silent for" in body["text"])
    assert "waiting for an answer from 127.0.0.1:" in said and "the local cache has it" in said
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "Interrupted after" in title(ran) and "go offline" in title(ran), ran.text
    assert "verified" in apply(kernel, "go-offline")


@pytest.mark.parametrize("load", ["hf_hub_download('acme/tiny', 'halting.bin', ", "snapshot_download('acme/tiny', "])
def test_a_download_that_stops_half_way_says_so_while_it_is_watched(kernel, tmp_path, monkeypatch, load):
    (tmp_path / "halting.bin").write_bytes(bytes(200_000))
    kernel.run("import tfdiag_ipython.watch.hub_silence as watch\nwatch.PATIENCE = 1.0")
    kernel.run("import tempfile\nfrom huggingface_hub import snapshot_download")
    with fake_hub(tmp_path) as server:
        place = f"127.0.0.1:{server.server_port}"
        monkeypatch.setattr(kernel.manager, "interrupt_kernel", server.release)  # once it has spoken, the rest comes
        cell = f"%%tfdiag\n{load} endpoint='http://{place}', cache_dir=tempfile.mkdtemp())"
        ran = kernel.run(cell, interrupt_at="tfdiag: silent for")
    said = "".join(body["text"] for kind, body in ran.published if kind == "stream")
    assert f"waiting for an answer from {place}, to load `acme/tiny`" in said, said
    assert ran.reply["status"] == "ok"


def test_a_download_that_comes_slowly_is_not_called_silent(kernel, served):
    (served[0] / "slow.bin").write_bytes(bytes(200_000))
    kernel.run("import tfdiag_ipython.watch.hub_silence as watch\nwatch.PATIENCE = 0.5")
    ran = kernel.run("%%tfdiag\nhf_hub_download('acme/tiny', 'slow.bin')")
    assert ran.reply["status"] == "ok" and "silent for" not in ran.text, ran.text


def test_an_interrupted_cell_that_loads_nothing_gets_no_diagnosis(kernel):
    ran = kernel.run("import time\nprint('started', flush=True)\ntime.sleep(30)", interrupt_at="started")
    assert ran.reply["ename"] == "KeyboardInterrupt" and title(ran) == ""
