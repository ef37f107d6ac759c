"""How long a person waits for the panel in JupyterLab, and what it costs on the wire: ``python benchmarks/panel.py`` (needs Chromium).

Measured in the page: from the moment that a cell's traceback stands in it to the moment that the panel does, and the same for a bare
``ipywidgets.Button`` under a printed line; the median of 20 cells each.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.browser import lab

ROUNDS = 20
FAILS = "from transformers import AutoTokenizr"
BARE = "import sys\nprint('x', file=sys.stderr, flush=True)\nwidgets.Button(description='a button')"
WATCH = """wanted => {
    window.seen = {};
    const look = () => {
        const cell = window.jupyterapp.shell.currentWidget.content.widgets[window.place].node;
        if (!window.seen.text && cell.querySelector('[data-mime-type="application/vnd.jupyter.stderr"]'))
            window.seen.text = performance.now();
        if (!window.seen.panel && cell.querySelector(wanted)) window.seen.panel = performance.now();
    };
    window.observer?.disconnect();
    window.observer = new MutationObserver(look);
    window.observer.observe(document.body, {childList: true, subtree: true, attributes: true});
}"""


def measured(
    page: Any, places: range, wanted: str, frames: list[bytes | str]
) -> tuple[list[float], list[tuple[int, int]]]:
    """Milliseconds from the text to ``wanted`` for each cell, and the comm messages and bytes that came for each."""
    waits, traffic = [], []
    for place in places:
        page.evaluate("place => { window.place = place }", place)
        page.evaluate(WATCH, wanted)
        page.evaluate("place => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = place }", place)
        frames.clear()
        lab.command(page, "notebook:run-cell")
        page.wait_for_function("() => window.seen.panel && window.seen.text")
        page.wait_for_timeout(300)
        seen = page.evaluate("() => window.seen")
        waits.append(seen["panel"] - seen["text"])
        comms = [frame for frame in frames if b"comm_" in (frame if isinstance(frame, bytes) else frame.encode())]
        traffic.append((len(comms), sum(map(len, comms))))
    return waits, traffic


def main() -> None:
    cells = [
        "import ipywidgets as widgets\nimport transformers",
        *[BARE] * ROUNDS,
        "%load_ext tfdiag",
        *[FAILS] * (ROUNDS + 1),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "notebooks").mkdir()
        nbformat.write(notebook, home / "notebooks" / "panel.ipynb")
        with lab.server(home / "notebooks", home) as address, lab.browser(home, height=20_000) as page:
            errors: list[str] = []
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            frames: list[bytes | str] = []
            page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))
            lab.open_notebook(page, address, "panel.ipynb")
            run(page, 0)
            bare, _ = measured(page, range(1, ROUNDS + 1), ".jupyter-button", frames)
            run(page, ROUNDS + 1)
            first, _ = measured(page, range(ROUNDS + 2, ROUNDS + 3), ".tfdiag-panel", frames)
            panel, traffic = measured(page, range(ROUNDS + 3, 2 * ROUNDS + 3), ".tfdiag-panel", frames)
    button, shown = statistics.median(bare), statistics.median(panel)
    messages, size = max(count for count, _ in traffic), max(size for _, size in traffic)
    print(
        f"a bare button: {button:.0f} ms; the panel: {shown:.0f} ms ({shown / button:.2f} of it), the first one {first[0]:.0f} ms"
    )
    print(f"comm messages for one panel: {messages}, {size / 1000:.1f} kB; console errors: {len(errors)} {errors[:2]}")


def run(page: Any, place: int) -> None:
    page.evaluate("place => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = place }", place)
    lab.command(page, "notebook:run-cell")


if __name__ == "__main__":
    main()
