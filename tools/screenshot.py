"""Take the pictures under docs/: each topic's first failing cell in JupyterLab, and the tour's with its fix applied and verified.

Needs Chromium, what ``pip install -e ".[test]"`` installs, and Pillow. ``--every FOLDER`` instead writes every topic in every theme (light,
dark, forced colours) and width into a folder, to be looked at. Names of topics limit either to these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.browser import lab  # noqa: E402

DOCS = ROOT / "docs"
TOPICS = ("hub", "memory", "tensorflow_weights", "imports", "indices", "padding", "auto_classes")
WIDTHS = (400, 800, 1280)
WIDTH, HEIGHT, MARGIN = 860, 1800, 10
COLOURS = 48
"""Of a picture's palette: text on one ground needs few, and each picture stays small."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "topics", nargs="*", metavar="TOPIC", help=f"tour, {', '.join(TOPICS)}; without any, all of them"
    )
    parser.add_argument("--every", type=Path, metavar="FOLDER", help="write every theme and width into this folder")
    options = parser.parse_args()
    topics = options.topics or ["tour", *TOPICS]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        notebooks = lab.copy_notebooks(home / "notebooks")
        (home / "tests").symlink_to(ROOT / "tests")  # the TensorFlow files that a notebook copies
        with lab.server(notebooks, home) as address, lab.browser(home, width=WIDTH, height=HEIGHT) as page:
            for topic in topics:
                lab.open_notebook(page, address, f"{topic}.ipynb")
                panel = lab.run_to_first_panel(page)
                if topic == "tour":
                    _repair(panel)
                if options.every:
                    _take_every(page, options.every, topic)
                elif topic == "tour":
                    _take(page, DOCS / "panel.png")
                else:
                    for theme in ("Light", "Dark"):
                        lab.set_theme(page, f"JupyterLab {theme}")
                        _take(page, DOCS / f"{topic}-{theme.lower()}.png")
                lab.command(page, "kernelmenu:shutdown")


def _repair(panel: Any) -> None:
    """The way to the README's picture: preview, apply, verified."""
    panel.get_by_role("button", name="AutoModelForImageClassification").click()
    panel.get_by_role("button", name=lab.TRY).click()
    panel.locator(".tfdiag-outcome").wait_for()


def _take_every(page: Any, folder: Path, topic: str) -> None:
    for theme in ("Light", "Dark", "Forced"):
        lab.set_theme(page, f"JupyterLab {'Dark' if theme == 'Dark' else 'Light'}")
        page.emulate_media(forced_colors="active" if theme == "Forced" else "none")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            _take(page, folder / f"{topic}-{theme.lower()}-{width}.png")
    page.emulate_media(forced_colors="none")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def _take(page: Any, target: Path) -> None:
    """The diagnosis and its panel, alone, as a picture with a palette."""
    page.mouse.move(0, 0)
    # below the notebook's tool bar, whose shadow would lie on the answer
    scroll = "one => {one.style.scrollMarginTop = '40px'; one.scrollIntoView({block: 'start'})}"
    page.locator(".tfdiag").first.evaluate(scroll)
    page.wait_for_timeout(700)  # the page scrolls, colours and shadows fade
    above, below = page.locator(".tfdiag").first.bounding_box(), page.locator(".tfdiag-panel").first.bounding_box()
    right = max(above["x"] + above["width"], below["x"] + below["width"])
    height = below["y"] + below["height"] - above["y"]
    area = {"x": above["x"], "y": above["y"], "width": right - above["x"], "height": height}
    picture = Image.open(BytesIO(page.screenshot(clip=area))).convert("RGB")
    ground = picture.getpixel((picture.width - 1, picture.height - 1))  # around it are the traceback and the next cell
    picture = ImageOps.expand(picture, MARGIN, ground)
    target.parent.mkdir(exist_ok=True)
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
