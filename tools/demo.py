"""The tour without a browser: run it in a real kernel, print each diagnosis, click one fix and print how it ended.

``make demo HEADLESS=1``. Ends with status 1 when a cell that must be diagnosed is not, or when the fix is not verified.
"""

from __future__ import annotations

import queue
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import start_new_kernel

TOUR = Path(__file__).resolve().parent.parent / "notebooks" / "tour.ipynb"
LABEL = re.compile(r"image classification|AutoModelForImageClassification", re.IGNORECASE)
"""The button of the fix that is clicked: the first failing cell's."""


class Page:
    """What a notebook page does: it sends cells and clicks, and keeps the state of the widgets that the kernel opens."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.widgets: dict[str, dict[str, Any]] = {}

    def run(self, source: str) -> list[dict[str, Any]]:
        """Execute a cell; return the contents of its display and error messages."""
        return self._until_idle(self.client.execute(source))

    def click(self, model: str) -> None:
        """Press a button, as ipywidgets' own front end does."""
        self._send(model, {"method": "custom", "content": {"event": "click"}})

    def button(self, label: re.Pattern[str]) -> str:
        """The newest button whose description fits; an empty string when there is none."""
        fitting = [
            model
            for model, state in self.widgets.items()
            if state.get("_model_name") == "ButtonModel" and label.search(state.get("description", ""))
        ]
        return fitting[-1] if fitting else ""

    def text(self) -> str:
        """All that the widgets show now, without markup."""
        values = [str(state.get("value", "")) for state in self.widgets.values()]
        return re.sub(r"<[^>]+>", " ", "\n".join(values))

    def _send(self, model: str, data: dict[str, Any]) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": model, "data": data})
        self.client.shell_channel.send(message)
        self._until_idle(message["header"]["msg_id"])

    def _until_idle(self, identity: str, seconds: float = 300) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "comm_open":
                self.widgets[content["comm_id"]] = dict(content["data"].get("state", {}))
            elif kind == "comm_msg" and content["data"].get("method") == "update":
                self.widgets.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            elif kind in {"display_data", "execute_result", "error"}:
                shown.append(content)
            ours = message["parent_header"].get("msg_id") == identity
            if ours and kind == "status" and content["execution_state"] == "idle":
                return shown
        raise TimeoutError("The kernel did not become idle.")


def main() -> int:
    """Run the tour; 0 when every cell tagged ``diagnosed`` is diagnosed and the clicked fix is verified."""
    notebook = nbformat.read(TOUR, as_version=4)
    manager, client = start_new_kernel(cwd=str(TOUR.parent))
    missing, verified = 0, ""
    try:
        page = Page(client)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                print(f"\n{cell.source}\n")
                continue
            shown = page.run(cell.source)
            told = [item["data"]["text/plain"] for item in shown if "text/html" in item.get("data", {})]
            errors = [f"{item['ename']}: {item['evalue'].splitlines()[0][:120]}" for item in shown if "ename" in item]
            print("In:  " + cell.source.replace("\n", "\n     "))
            print("\n".join(errors + [text for text in told if text.strip()]), flush=True)
            tags = cell.metadata.get("tags", [])
            missing += "diagnosed" in tags and not any(text.strip() for text in told)
            if errors and "raises-exception" not in tags:
                print("This cell must not fail.")
                return 1
            if not verified:
                verified = click_fix(page)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print(f"\n{missing} undiagnosed; the clicked fix: {verified or 'no button was found'}")
    return int(bool(missing) or "verified" not in verified.lower())


def click_fix(page: Page) -> str:
    """Click the fix's button and then Apply, as a person would; the panel's words on how it ended, or an empty string."""
    button = page.button(LABEL)
    if not button:
        return ""
    page.click(button)
    apply = page.button(re.compile(r"^\W*Apply"))
    print(f"\n[clicking: {page.widgets[button]['description']}]")
    if apply:
        print("[clicking: Apply]")
        page.click(apply)
    lines = [line.strip() for line in page.text().splitlines() if re.search(r"(?i)\bverified\b", line)]
    print("\n".join(lines))
    return lines[-1] if lines else "not verified"


if __name__ == "__main__":
    sys.exit(main())
