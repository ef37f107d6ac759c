"""The tour without a browser: run it in a real kernel, print each diagnosis, click one fix and print how it ended.

``make demo HEADLESS=1``. Ends with status 1 when a cell that must be diagnosed is not, or when the fix is not verified.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from jupyter_client.manager import start_new_kernel
from page import Page

TOUR = Path(__file__).resolve().parent.parent / "notebooks" / "tour.ipynb"
LABEL = "AutoModelForImageClassification"
"""The button of the fix that is clicked: the first failing cell's."""


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
    for label in (re.escape(button), "^Apply"):
        found = page.button(label)
        if found:
            print(f"[clicking: {found}]")
            page.click(found)
    verified = re.search(r"\bVerified: [^.]*\.", page.text())
    print(verified[0].strip() if verified else page.text())
    return verified[0].strip() if verified else "not verified"


if __name__ == "__main__":
    sys.exit(main())
