"""A person's way through JupyterLab: a cell fails, a click previews the fix, another applies it, the panel says "verified"."""

from __future__ import annotations

import pytest

from tests.browser import lab

pytestmark = [pytest.mark.browser, pytest.mark.hf, pytest.mark.kernel]
PARTS = ".tfdiag, .tfdiag-panel"
OVERFLOWING = """parts => [...document.querySelectorAll(parts)].flatMap(part => [part, ...part.querySelectorAll('*')])
    .filter(one => one.checkVisibility() && (one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0
        && getComputedStyle(one).display !== 'inline' || one.getBoundingClientRect().right > innerWidth))
    .map(one => one.outerHTML.slice(0, 200))"""
CONTRASTS = """parts => {
    const read = colour => {
        const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
        return colour.startsWith('color(srgb') ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    };
    const over = (top, under) => [0, 1, 2].map(n => top[n] * top[3] + under[n] * (1 - top[3])).concat(1);
    const light = colour => {
        const [r, g, b] = colour.slice(0, 3).map(v => v / 255).map(
            v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const chain = one => one ? [...chain(one.parentElement), one] : [];
    const measured = [];
    for (const part of document.querySelectorAll(parts))
        for (const one of [part, ...part.querySelectorAll('*')]) {
            const text = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            if (!text || !one.checkVisibility() || one.closest('style, :disabled')) continue;
            let ground = [255, 255, 255, 1], opacity = 1;
            for (const outer of chain(one)) {
                const style = getComputedStyle(outer);
                ground = over(read(style.backgroundColor), ground);
                opacity *= Number(style.opacity);
            }
            const ink = read(getComputedStyle(one).color);
            ink[3] *= opacity;
            const [a, b] = [light(over(ink, ground)), light(ground)].sort((x, y) => y - x);
            measured.push([(a + 0.05) / (b + 0.05), one.textContent.trim().slice(0, 60)]);
        }
    return measured;
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The tour up to its first failing cell, in JupyterLab."""
    home = tmp_path_factory.mktemp("lab")
    notebooks = lab.copy_notebooks(home / "notebooks")
    with lab.server(notebooks, home) as address, lab.browser(home) as page:
        lab.open_notebook(page, address, "tour.ipynb")
        lab.run_to_first_panel(page)
        yield page


def check_looks(page) -> None:
    """Text is readable in both themes, and nothing sticks out of a narrow page."""
    for theme in ("JupyterLab Light", "JupyterLab Dark"):
        lab.set_theme(page, theme)
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)  # colours fade
        measured = page.evaluate(CONTRASTS, PARTS)
        assert len(measured) > 8
        assert min(measured)[0] >= 4.5, (theme, sorted(measured)[:5])
    lab.set_theme(page, "JupyterLab Light")
    before = page.viewport_size
    page.set_viewport_size({"width": 400, "height": 900})
    page.wait_for_timeout(400)
    overflowing = page.evaluate(OVERFLOWING, PARTS)
    page.set_viewport_size(before)
    assert overflowing == []


def test_a_failing_cell_is_diagnosed_fixed_and_verified(page):
    panel = page.locator(".tfdiag-panel").first
    assert "AutoModelForImageClassification" in page.locator(".tfdiag-answer").first.inner_text()
    for folded in page.locator(".tfdiag summary").all():
        folded.click()
    check_looks(page)

    panel.get_by_role("button", name="AutoModelForImageClassification").click()
    panel.get_by_role("button", name=lab.TRY).wait_for()
    assert "+model = AutoModelForImageClassification" in panel.inner_text()
    check_looks(page)

    panel.get_by_role("button", name=lab.TRY).click()
    panel.locator(".tfdiag-outcome").wait_for()
    assert "Verified" in panel.locator(".tfdiag-outcome").inner_text()
    check_looks(page)

    panel.get_by_text("now holds the fix").wait_for()
    cells = "() => [...window.jupyterapp.shell.currentWidget.model.cells].map(cell => cell.sharedModel.getSource())"
    assert any("AutoModelForImageClassification.from_pretrained" in source for source in page.evaluate(cells))

    panel.get_by_role("button", name="Explain this rule").click()
    panel.get_by_role("heading", name="How tfdiag confirms it").wait_for()
    panel.get_by_role("button", name="Show report to copy").click()
    panel.get_by_text("The report, as Markdown").wait_for()
    field = panel.locator("textarea")
    field.click()
    page.keyboard.press("Control+a")
    script = "field => field.value.slice(field.selectionStart, field.selectionEnd)"
    assert "CFG001" in field.evaluate(script)
    check_looks(page)

    panel.get_by_role("button", name="Undo").click()
    panel.get_by_text("Put back").wait_for()

    panel.get_by_role("button", name="This diagnosis is wrong").click()
    page.get_by_text("you called CFG001 wrong here").wait_for()
    assert page.locator(".tfdiag-answer").count() == 0
    panel.get_by_text("CFG001 stays silent").wait_for()
