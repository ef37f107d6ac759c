"""A notebook page without a browser: it runs cells, clicks, and keeps the state of the widgets, over the Jupyter protocol."""

from __future__ import annotations

import html
import queue
import re
import time
from typing import Any


class Page:
    """What a front end does with a kernel. ``traffic`` and ``messages`` count the characters and messages of all comms."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.widgets: dict[str, dict[str, Any]] = {}
        self.traffic = 0
        self.messages = 0

    def run(self, source: str, cell: str = "") -> list[dict[str, Any]]:
        """Execute a cell, under the id that the notebook has for it; the contents of its display, stream and error messages.

        The next one runs even where this one fails.
        """
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}}
        request = {**content, "allow_stdin": False, "stop_on_error": False}
        message = self.client.session.msg("execute_request", request, metadata={"cellId": cell} if cell else {})
        self.client.shell_channel.send(message)
        return self._until_idle(message["header"]["msg_id"])

    def value(self, expression: str) -> str:
        """What ``print(expression)`` shows."""
        shown = self.run(f"print({expression})")
        assert shown and "ename" not in shown[0], shown
        return str(shown[0]["text"]).strip()

    @property
    def shown(self) -> set[str]:
        """The widgets that stand on the page: those under the newest panel."""
        roots = [model for model, state in self.widgets.items() if "tfdiag-panel" in state.get("_dom_classes", ())]
        reached: set[str] = set()
        waiting = roots[-1:]
        while waiting:
            model = waiting.pop()
            reached.add(model)
            waiting += [child.removeprefix("IPY_MODEL_") for child in self.widgets[model].get("children", ())]
        return reached

    def buttons(self) -> dict[str, str]:
        """The buttons of the newest panel: their descriptions, and their models' ids."""
        shown = [(model, self.widgets[model]) for model in self.widgets if model in self.shown]
        return {state["description"]: model for model, state in shown if state["_model_name"] == "ButtonModel"}

    def button(self, label: str) -> str:
        """The description of the newest panel's first button in which the regular expression ``label`` is found, or nothing."""
        return next((text for text in self.buttons() if re.search(label, text, re.IGNORECASE)), "")

    def click(self, description: str) -> None:
        """Press the newest panel's button with this description, as ipywidgets' own front end does."""
        self.press(self.buttons()[description])

    def press(self, model: str) -> None:
        """Press the button with this model."""
        self._until_idle(self._send_click(model))

    def double_click(self, description: str) -> None:
        """Press it twice before the kernel has answered."""
        model = self.buttons()[description]
        first, second = self._send_click(model), self._send_click(model)
        self._until_idle(first)
        self._until_idle(second)

    def _send_click(self, model: str) -> str:
        return self._send(model, {"event": "click"})

    def answer(self, model: str, content: dict[str, Any]) -> None:
        """Send what a widget's own code in the page would send to the kernel."""
        self._until_idle(self._send(model, content))

    def _send(self, model: str, content: dict[str, Any]) -> str:
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": model, "data": data})
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def markup(self) -> str:
        """The HTML of the newest panel."""
        values = (self.widgets[model] for model in self.shown)
        return "\n".join(str(state.get("value", "")) for state in values if state["_model_name"] == "HTMLModel")

    def text(self) -> str:
        """All that the newest panel says, without markup."""
        whole = re.sub(r"<wbr>|</?span[^>]*>", "", self.markup())  # these stand within words
        plain = re.sub(r"<style>.*?</style>|<[^>]+>", " ", whole, flags=re.DOTALL)
        return re.sub(r"\s+", " ", html.unescape(plain))

    def wait_for(self, told: str, seconds: float = 20) -> None:
        """Read messages until the page says so."""
        end = time.monotonic() + seconds
        while told not in self.text():
            assert time.monotonic() < end, self.text()
            self._receive()

    def _until_idle(self, identity: str, seconds: float = 300) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self._receive()
            if message is None:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind in {"display_data", "execute_result", "stream", "error"}:
                shown.append(content)
            ours = message["parent_header"].get("msg_id") == identity
            if ours and kind == "status" and content["execution_state"] == "idle":
                return shown
        raise TimeoutError("The kernel did not become idle.")

    def _receive(self) -> dict[str, Any] | None:
        try:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=0.5)
        except queue.Empty:
            return None
        kind, content = message["msg_type"], message["content"]
        if kind.startswith("comm_"):
            self.messages += 1
            self.traffic += len(str(content))
        if kind == "comm_open":
            self.widgets[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif kind == "comm_close":
            self.widgets.pop(content["comm_id"], None)
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.widgets.setdefault(content["comm_id"], {}).update(content["data"]["state"])
        return message
