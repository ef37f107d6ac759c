"""A Hub on this machine that speaks the Hub's protocol, with faults by the owner in a repository's name.

``acme/tiny`` is a real repository, served from a folder; of ``gated/tiny``, ``busy/tiny`` and so on it tells what ``FAULTS`` says.
A file whose name begins with ``stalled`` comes only when the server is released, of one that begins with ``halting``
only the first half until then;
one that begins with ``slow`` comes little by little.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMIT = "89abcdef" * 5
LOGIN = b"<html><body><h1>Welcome to the hotel</h1><form>Room number</form></body></html>"
FAULTS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "gateway": (401, {}, b""),
    "forbidden": (403, {}, b""),
    "gated": (403, {"X-Error-Code": "GatedRepo"}, b""),
    "unknown": (404, {"X-Error-Code": "RepoNotFound"}, b""),
    "limited": (429, {}, b""),
    "broken": (500, {}, b""),
    "busy": (503, {}, b""),
    "portal": (200, {"Content-Type": "text/html"}, LOGIN),
    "redirect": (302, {"Location": "/hotel/login"}, b""),
}
SILENT = "silent"


class _Handler(http.server.BaseHTTPRequestHandler):
    folder: Path
    ended: threading.Event
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        status, headers, body = self._answer()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and "/halting" in self.path:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.ended.wait()
            self.wfile.write(body[len(body) // 2 :])
        elif self.command != "HEAD" and "/slow" in self.path:
            for start in range(0, len(body), len(body) // 60):
                self.wfile.write(body[start : start + len(body) // 60])
                self.ended.wait(0.04)
        elif self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD

    def _answer(self) -> tuple[int, dict[str, str], bytes]:
        path = self.path.partition("?")[0].removeprefix("/api/models")
        owner = path.split("/")[1]
        if owner == "hotel":
            return 200, {"Content-Type": "text/html"}, LOGIN
        if owner == SILENT:
            self.ended.wait()
        if owner in FAULTS:
            return FAULTS[owner]
        asked = re.match(r"/[^/]+/[^/]+(?:/(resolve|revision|tree)/([^/]+)(?:/(.+))?)?$", path)
        if asked is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        kind, revision, name = asked.groups()
        if revision not in {None, "main", COMMIT}:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = sorted(file.name for file in self.folder.iterdir())
        if kind == "resolve":
            if name not in files:
                return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
            if name.startswith("stalled"):
                self.ended.wait()
            return 200, {"ETag": f'"{name}-1"', "X-Repo-Commit": COMMIT}, (self.folder / name).read_bytes()
        if kind == "tree" and not name:
            told = [
                {"type": "file", "path": file, "size": (self.folder / file).stat().st_size, "oid": COMMIT}
                for file in files
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
        if kind == "tree":
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        repo = "/".join(path.split("/")[1:3])
        told = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fake_hub(folder: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    """The Hub while the block runs; its ``server_port`` says where."""
    ended = threading.Event()
    handler = type("Handler", (_Handler,), {"folder": folder, "ended": ended})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.release = ended.set  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
