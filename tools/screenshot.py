"""Take the README's picture: the tour's first failing cell in JupyterLab, its fix applied and verified.

Writes docs/panel.png; needs Chromium and what `pip install -e ".[test]"` installs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.browser import lab  # noqa: E402

TARGET = ROOT / "docs" / "panel.png"
WIDTH, HEIGHT, MARGIN = 860, 1200, 10


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        notebooks = lab.copy_notebooks(home / "notebooks")
        with lab.server(notebooks, home) as address, lab.browser(home, width=WIDTH, height=HEIGHT, scale=1.5) as page:
            lab.open_notebook(page, address, "tour.ipynb")
            panel = lab.run_to_first_panel(page)
            panel.get_by_role("button", name="AutoModelForImageClassification").click()
            panel.get_by_role("button", name="Apply").click()
            panel.locator(".tfdiag-outcome").wait_for()
            page.mouse.move(0, 0)
            page.locator(".tfdiag-answer").first.evaluate("answer => answer.scrollIntoView({block: 'start'})")
            page.wait_for_timeout(1000)  # the page scrolls and its shadows fade
            above, below = page.locator(".tfdiag").first.bounding_box(), panel.bounding_box()
            area = {
                "x": above["x"] - MARGIN,
                "y": above["y"],
                "width": max(above["width"], below["width"]) + 2 * MARGIN,
                "height": below["y"] + below["height"] - above["y"] + MARGIN,
            }
            TARGET.parent.mkdir(exist_ok=True)
            page.screenshot(path=TARGET, clip=area)
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
