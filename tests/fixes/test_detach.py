"""Results are kept without their graphs: the edit, and the cells that run again."""

import pytest

from tfdiag_ipython.fixes.detach import collecting_cell, detach, detach_collected, needed_for_backward
from tfdiag_ipython.testing import PlainHost


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("kept.append(out.logits)  # all", "kept.append(out.logits.detach())  # all"),
        ("kept.append(a + b)", "kept.append((a + b).detach())"),
        ("!ls\n%time kept.append(a)", "!ls\n%time kept.append(a.detach())"),
        *(2 * (same,) for same in ("kept.append(out.logits.detach().cpu())", "kept.append(loss.item())")),
        *(2 * (same,) for same in ("kept += [a]", "kept += out.hidden_states", "kept.append(*a)", "others.append(a)")),
    ],
)
def test_what_a_list_collects(before, after):
    assert detach_collected(before, "kept", lists=True) == after


def test_what_a_sum_collects():
    assert detach_collected("total += loss  # all", "total", lists=False) == "total += loss.detach()  # all"
    for same in ("total -= loss", "other += loss", "total.append(loss)", "total += loss.item()"):
        assert detach_collected(same, "total", lists=False) == same


def test_what_a_backward_pass_runs_through_is_told_from_what_is_only_kept():
    loop = "for batch in data:\n    loss = step(batch)\n    losses.append(loss)\n"
    assert "losses" in needed_for_backward(f"{loop}torch.stack(losses).mean().backward()")
    assert "losses" not in needed_for_backward(f"{loop}    loss.backward()\nprint(len(losses))")
    assert needed_for_backward(f"{loop}torch.stack(losses).mean()") == set()


def test_the_cell_that_collects_is_found():
    host = PlainHost()
    for source in ("kept = []", "kept.append(1)", "%%bash\nkept.append", "len(kept)"):
        host.add(source)
    assert collecting_cell(host.cells, "kept", lists=True) == "cell 2"
    assert collecting_cell(host.cells, "kept", lists=False) == collecting_cell(host.cells, "other", lists=True) == ""


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
    plan = detach(host.scene(), name, lists=name == "kept")
    assert [cell.source.splitlines()[0] for cell in plan.reruns] == [start, adds.replace("value", "value.detach()")]
