"""A real kernel of this interpreter, spoken to over the Jupyter protocol."""

from __future__ import annotations

import os
import queue
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jupyter_client", reason="no Jupyter client is installed here")

ROOT = Path(__file__).parents[2]
ARGV = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
LOAD = "import pack\npack.install()\n%load_ext tfdiag_ipython"


def specification() -> Any:
    from jupyter_client.kernelspec import KernelSpec

    return KernelSpec(argv=ARGV, language="python", display_name="tests", interrupt_mode="signal")


def environment() -> dict[str, str]:
    here = str(Path(__file__).parent)
    path = os.pathsep.join(part for part in (str(ROOT), here, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


@dataclass
class Ran:
    """One executed cell: the reply's content, and what was published meanwhile."""

    reply: dict[str, Any]
    published: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.published]

    @property
    def text(self) -> str:
        """All that a reader without html sees."""
        parts = []
        for kind, content in self.published:
            if kind == "stream":
                parts.append(content["text"])
            elif kind == "error":
                parts.append("\n".join(content["traceback"]))
            elif "data" in content:
                parts.append(content["data"].get("text/plain", ""))
        return "\n".join(parts)

    def displays(self, mime: str) -> list[str]:
        return [content["data"][mime] for _, content in self.published if mime in content.get("data", {})]


class Kernel:
    """Starts a kernel and runs cells in it; ``close`` ends it."""

    def __init__(self) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager()
        self.manager._kernel_spec = specification()
        self.manager.start_kernel(env=environment(), cwd=str(ROOT))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def load(self) -> None:
        """Load tfdiag outside the history, so that cells are numbered as in a bare kernel."""
        ran = self.run(LOAD, store_history=False)
        assert ran.reply["status"] == "ok", ran.text

    def run(self, code: str, **options: Any) -> Ran:
        """Run a cell (options: see ``_run``). For a moment after a failing cell a kernel aborts what comes next: then once more."""
        until = time.monotonic() + 10
        while True:
            ran = self._run(code, **options)
            if ran.reply["status"] != "aborted" or time.monotonic() > until:
                return ran

    def _run(
        self, code: str, *, cell_id: str = "", interrupt_at: str = "", answers: tuple[str, ...] = (), **content: Any
    ) -> Ran:
        """Run a cell; interrupt it once it has printed ``interrupt_at``; give ``answers`` to what it asks."""
        wanted = {"silent": False, "store_history": True, "user_expressions": {}, "stop_on_error": True}
        request = {"code": code, **wanted, "allow_stdin": bool(answers), **content}
        metadata = {"cellId": cell_id} if cell_id else {}
        message = self.client.session.msg("execute_request", request, metadata=metadata)
        self.client.shell_channel.send(message)
        identity, left = message["header"]["msg_id"], list(answers)
        published: list[tuple[str, dict[str, Any]]] = []
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if answers:
                self._answer(left)
            try:
                got = self.client.get_iopub_msg(timeout=0.2 if answers else 5)
            except queue.Empty:
                continue
            kind, body = got["msg_type"], got["content"]
            asked = (
                bool(answers) and kind == "stream"
            )  # what a busy kernel prints around a question may bear another parent
            if got["parent_header"].get("msg_id") != identity and not asked:
                continue
            if kind == "status" and body["execution_state"] == "idle":
                return Ran(self._reply(identity), published)
            if kind not in {"status", "execute_input"}:
                published.append((kind, body))
            if interrupt_at and kind == "stream" and interrupt_at in body["text"]:
                interrupt_at = ""
                self.manager.interrupt_kernel()
        raise TimeoutError(code)

    def _answer(self, left: list[str]) -> None:
        try:
            self.client.get_stdin_msg(timeout=0.1)
        except queue.Empty:
            return
        self.client.input(left.pop(0) if left else "q")

    def _reply(self, identity: str) -> dict[str, Any]:
        while True:
            reply = self.client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == identity:
                return dict(reply["content"])


def alike(value: Any) -> Any:
    """A message's content without what differs from process to process."""
    if isinstance(value, dict):
        return {key: alike(entry) for key, entry in sorted(value.items()) if key not in {"engine_info", "transient"}}
    if isinstance(value, (list, tuple)):
        return [alike(entry) for entry in value]
    if isinstance(value, str):
        value = re.sub(r"ipykernel_\d+[/\\]\d+\.py", "cell.py", value)  # named for the raw source and the process
        value = re.sub(r"0x[0-9a-f]+", "0xN", value)
        return re.sub(r"(?:CPU times|Wall time).*", "timed", value)
    return value


def streams_joined(published: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Neighbouring pieces of one stream as one: where a stream is cut is chance."""
    joined: list[tuple[str, Any]] = []
    for kind, body in published:
        if kind == "stream" and joined and joined[-1][0] == kind and joined[-1][1]["name"] == body["name"]:
            joined[-1] = (kind, {**body, "text": joined[-1][1]["text"] + body["text"]})
        else:
            joined.append((kind, body))
    return joined
