"""The durable diagnosis on a page of its own, in Chromium: hostile lengths, right-to-left, forced colours, what a screen reader gets."""

from __future__ import annotations

import dataclasses

import pytest

from tests.browser import lab
from tests.browser.test_jupyterlab import CONTRASTS, OVERFLOWING
from tests.render.examples import DIAGNOSIS
from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.fix import Preview
from tfdiag_ipython.render.html import render_html, resource
from tfdiag_ipython.render.panel_markup import copyable, preview, wrapped

pytestmark = pytest.mark.browser
PATH = "/home/me/" + "a-very-long-folder-name/" * 30 + "model.safetensors"
LONG = dataclasses.replace(
    DIAGNOSIS,
    title=f"{PATH} is not there",
    what="no space at all " + "x" * 10_000,
    evidence=(Observation("z" * 300, PATH, PATH), *DIAGNOSIS.evidence),
    unseen=("y" * 10_000,),
)
HEBREW = dataclasses.replace(DIAGNOSIS, title="התוויות גדולות מדי", what="יש יותר מחלקות")
BUTTON = f'<style>{resource("panel.css")}</style><div class="tfdiag-panel"><button class="tfdiag-button">Do it</button></div>'


LONG_NAME = "document.querySelector('.tfdiag-answer .tfdiag-long')"
TOPS = "new Set([...range.getClientRects()].map(one => one.top)).size"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with lab.browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def show(page, *diagnoses, direction="ltr", width=400, unfolded=True):
    page.set_viewport_size({"width": width, "height": 900})
    page.set_content(f'<html dir="{direction}"><body>{render_html(list(diagnoses))}{BUTTON}</body></html>')
    for folded in page.locator("summary").all() if unfolded else []:
        folded.click()


@pytest.mark.parametrize("width", [320, 400, 800, 1280])
@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_long_paths_and_messages_stay_inside(page, width, direction):
    show(page, LONG, LONG, direction=direction, width=width)
    assert page.evaluate(OVERFLOWING, ".tfdiag, .tfdiag-panel") == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_bar_stands_where_the_line_begins_and_text_runs_its_own_way(page):
    sides = "one => [getComputedStyle(one).borderLeftWidth, getComputedStyle(one).borderRightWidth]"
    for direction, expected in (("ltr", ["3px", "0px"]), ("rtl", ["0px", "3px"])):
        show(page, HEBREW, direction=direction)
        for part in (".tfdiag", ".tfdiag-panel"):
            assert page.locator(part).evaluate(sides) == expected
        assert page.locator(".tfdiag-answer").evaluate("one => getComputedStyle(one).direction") == "rtl"
        assert page.locator("td").first.evaluate("one => getComputedStyle(one).direction") == "ltr"


def test_code_and_english_run_from_the_left_on_a_page_that_does_not(page):
    shown = preview(Preview("diff", "--- a\n+++ b\n-x = 1\n+x = 2", "Then runs cell 2 again.")) + copyable(
        "# x", "To copy:"
    )
    page.set_content(f'<html dir="rtl"><body>{wrapped(shown)}</body></html>')
    directions = "[...document.querySelectorAll('pre, textarea, p')].map(one => getComputedStyle(one).direction)"
    assert set(page.evaluate(directions)) == {"ltr"}


@pytest.mark.parametrize("width", [320, 1280])
def test_a_screen_reader_gets_the_answer_first_as_a_heading_then_named_parts(page, width):
    show(page, DIAGNOSIS, width=width)
    tree = page.locator("body").aria_snapshot()
    parts = [
        'region "tfdiag: diagnosis"',
        f'heading "{DIAGNOSIS.title}" [level=3]',
        "confirmed · IDX001",
        'table "Evidence"',
        'rowheader "largest label"',
        'list "Fixes"',
        "What and why",
    ]
    assert all(part in tree for part in parts), tree
    assert [tree.index(part) for part in parts] == sorted(tree.index(part) for part in parts)
    assert "●" not in tree  # a mark for the eye; the word follows


def test_keys_reach_what_folds_and_show_where_they_are(page):
    show(page, DIAGNOSIS, unfolded=False)
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY" and page.evaluate(outline) == "solid"
    before = page.locator("details").get_attribute("open")
    page.keyboard.press("Enter")
    assert page.locator("details").get_attribute("open") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_keep_text_full_and_buttons_bordered(page, scheme):
    page.emulate_media(forced_colors="active", color_scheme=scheme)
    show(page, DIAGNOSIS)
    opacities = "[...document.querySelectorAll('.tfdiag *')].map(one => getComputedStyle(one).opacity)"
    assert set(page.evaluate(opacities)) == {"1"}
    style = "one => [getComputedStyle(one).borderTopStyle, getComputedStyle(one).borderTopColor, getComputedStyle(one).backgroundColor]"
    border, colour, ground = page.locator(".tfdiag-button").evaluate(style)
    assert border == "solid" and colour != ground
    page.emulate_media(forced_colors="none", color_scheme="light")


def test_it_is_readable_without_a_theme(page):
    show(page, DIAGNOSIS, DIAGNOSIS, width=800)
    assert min(page.evaluate(CONTRASTS, ".tfdiag"))[0] >= 4.5


def test_a_long_name_stays_whole_where_it_fits_into_a_line(page):
    name = "AutoModelForSequenceClassification"
    titled = dataclasses.replace(DIAGNOSIS, title=f"The class that is wanted here is called `{name}`")
    rows = f"() => {{const range = document.createRange(); range.selectNodeContents({LONG_NAME}); return {TOPS};}}"
    show(page, titled, width=400)
    assert page.evaluate(rows) == 1
    show(page, titled, width=200)
    assert page.evaluate(rows) > 1
