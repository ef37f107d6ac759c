"""The connection tried step by step, against servers on this machine."""

import http.server
import socket
import threading
from contextlib import contextmanager

import pytest

from tfdiag_ipython.engine import Engine
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes import hub
from tfdiag_ipython.probes.hub import HubProbe
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rules.hub.hub_unreachable import HubUnreachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def server(status=200):
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_CONNECT = answer

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


def ask(arguments):
    return HubProbe().ask(arguments, Scene({}, live=True))


def title(evidence):
    return Engine(Registry([HubUnreachable()])).diagnose(evidence.finding)[0].title


def test_a_hub_that_answers_is_no_finding():
    with server() as place:
        evidence = ask(f"http://{place}")
    assert [step for step, _, _ in evidence["steps"]] == ["resolve", "connect", "HTTP"]
    assert evidence["status"] == 200
    assert evidence.finding is None


def test_a_gateway_that_wants_a_login():
    with server(401) as place:
        evidence = ask(f"http://{place}/")
    assert title(evidence) == f"{place} answered HTTP 401 (it wants a login)"


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    evidence = ask(f"http://{place}")
    assert evidence["failed"] == "connect"
    assert title(evidence) == f"{place} could not be reached: the connection was refused"


def test_a_name_that_does_not_exist():
    evidence = ask("http://hub.invalid")
    assert evidence["failed"] == "resolve"
    assert "name did not resolve" in title(evidence)


def test_a_server_without_tls():
    with server() as place:
        evidence = ask(f"https://{place}")
    assert evidence["failed"] == "TLS"
    assert title(evidence) == f"{place} could not be reached: it speaks no TLS"


def test_a_silent_server_ends_in_a_time_out(monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        evidence = ask(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert evidence["failed"] == "HTTP"
    assert "did not answer in time" in title(evidence)


def test_a_proxy_that_forbids_the_way(monkeypatch):
    with server(403) as place:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@{place}")
        evidence = ask("https://hub.example")
    assert (evidence["proxy"], evidence["failed"]) == ("HTTPS_PROXY", "proxy")
    assert "the proxy in HTTPS_PROXY did not let it through" in title(evidence)
    assert "secret" not in repr(evidence)


@pytest.mark.parametrize("proxy", ["http://erin:s3cret/pw@proxy:3128", "http://proxy:port", "http//proxy:3128"])
def test_a_proxy_variable_that_cannot_be_read_is_named_without_its_password(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    told = ask("https://hub.example").missing
    assert told.startswith("the value of HTTPS_PROXY is no address of a proxy") and "s3cret" not in told


def test_a_login_in_an_address_that_is_none_is_not_repeated():
    assert ask("htps://erin:s3cretpw@hub.example").missing.startswith("`htps://hub.example` is no address")


@pytest.mark.parametrize("address", ["ftp://hub.example", "http://", "http://hub:99999"])
def test_what_is_no_address(address):
    assert "no address" in ask(address).missing
