"""Results are kept without their graphs: the edit, and the cells that run again."""

import pytest

from tfdiag_ipython.fixes.detach import collecting_cell, detach, detach_collected
from tfdiag_ipython.testing import PlainHost


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("kept.append(out.logits)  # all", "kept.append(out.logits.detach())  # all"),
        ("kept.append(a + b)", "kept.append((a + b).detach())"),
        ("kept.append(out.logits.detach().cpu())", "kept.append(out.logits.detach().cpu())"),
        ("kept.append(loss.item())", "kept.append(loss.item())"),
        ("kept += loss", "kept += loss.detach()"),
        ("kept -= loss; other += loss; others.append(loss)", "kept -= loss; other += loss; others.append(loss)"),
        ("%time kept.append(a)\nkept.append(a)", "%time kept.append(a)\nkept.append(a.detach())"),
    ],
)
def test_the_edit(before, after):
    assert detach_collected(before, "kept") == after


def test_the_cell_that_collects_is_found():
    host = PlainHost()
    for source in ("kept = []", "kept.append(1)", "%%bash\nkept.append", "len(kept)"):
        host.add(source)
    assert collecting_cell(host.cells, "kept") == "cell 2"
    assert collecting_cell(host.cells, "other") == ""


@pytest.mark.parametrize("start", ["kept = []", "total = 0"])
def test_what_was_collected_with_graphs_is_made_anew_first(start):
    name = start.split()[0]
    adds = "kept.append(value)" if name == "kept" else "total += value"
    host = PlainHost()
    for source in (
        "class Value(int):\n    detach = lambda self: self\nvalue = Value(1)",
        start,
        adds,
        f"{adds}\n1 / 0",
    ):
        host.add(source)
    plan = detach(host.scene(), name)
    assert [cell.source.splitlines()[0] for cell in plan.reruns] == [start, adds.replace("value", "value.detach()")]
