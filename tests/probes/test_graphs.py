"""What the graphs of kept tensors hold is found under the names that keep them, and nothing is computed for it."""

import pytest

from tests.probes.test_memory import look
from tfdiag_ipython.probes.memory import MemoryProbe
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")
if not hasattr(torch._C._autograd.SavedTensor, "unpack_hook"):
    pytest.skip("this torch does not tell what its graphs saved", allow_module_level=True)

MODEL = "model = torch.nn.Sequential(torch.nn.Linear(100, 100, bias=False), torch.nn.Tanh(), torch.nn.Linear(100, 1, bias=False))"
SAVED = 4 * 100 * 100 * 2  # the inputs and what tanh gave, of 100 rows


def graphs(seen):
    return dict(seen["names"]["cpu"]["graphs"])


def test_a_list_of_scores_keeps_their_forward_passes_until_backward():
    kept = "kept = [model(torch.ones(100, 100)) for step in range(3)]"
    seen = look(MODEL, kept)
    assert graphs(seen) == {"kept": 3 * SAVED}
    assert seen["ledgers"]["cpu"]["graphs"] == 3 * SAVED
    assert graphs(look(MODEL, kept, "kept[0].sum().backward()", "1 / 0")) == {"kept": 2 * SAVED}
    assert graphs(look(MODEL, f"with torch.no_grad():\n    {kept}")) == {}


def test_of_a_function_that_failed_its_lists_count_and_not_the_step_that_was_running():
    seen = look(
        MODEL,
        "def evaluate():\n    kept = []\n    for step in range(9):\n        scores = model(torch.ones(100, 100))\n"
        "        if step == 2:\n            raise ValueError\n        kept.append(scores)\n        del scores",
        "evaluate()",
    )
    assert graphs(seen) == {"evaluate: kept": 2 * SAVED}
    assert dict(seen["collected"]) == {"evaluate: kept": ("cell 3", True)}


def test_what_would_be_computed_again_is_not():
    seen = look(
        "from torch.utils.checkpoint import checkpoint\ncalls = []",
        "def layer(x):\n    calls.append(1)\n    return torch.tanh(x)",
        "loss = checkpoint(layer, torch.ones(1000, requires_grad=True), use_reentrant=False)",
        "assert len(calls) == 1, len(calls)",
    )
    assert "loss" not in graphs(seen)


def test_only_what_is_a_tensor_or_a_list_of_them_can_be_kept_without_graphs():
    outputs = "kept = []\nfor step in range(2):\n    kept.append({'scores': model(torch.ones(100, 100))})"
    seen = look(MODEL, outputs)
    assert graphs(seen) == {"kept": 2 * SAVED} and not seen["collected"]
    total = "total = 0\nfor step in range(2):\n    total += model(torch.ones(100, 100)).sum()"
    assert dict(look(MODEL, total)["collected"]) == {"total": ("cell 3", False)}


STEP = "for step in range(3):\n    outputs = model(torch.ones(100, 100))\n    "


def test_the_step_that_was_running_is_no_leak_and_an_earlier_cells_output_is():
    assert graphs(look(MODEL, f"{STEP}if step == 2: 1 / 0\n    outputs.sum().backward()")) == {}
    assert graphs(look(MODEL, f"{STEP}if step == 2: 1 / 0")) == {}
    assert graphs(look(MODEL, "outputs = model(torch.ones(100, 100))", "1 / 0")) == {"outputs": SAVED}


def test_what_is_collected_for_one_backward_pass_is_no_leak():
    losses = "losses = []\nfor step in range(3):\n    losses.append(model(torch.ones(100, 100)).sum())\n"
    assert graphs(look(MODEL, f"{losses}1 / 0\ntorch.stack(losses).sum().backward()")) == {}
    assert graphs(look(MODEL, f"{losses}1 / 0\nprint(torch.stack(losses).sum())")) == {"losses": 3 * SAVED}


def test_a_thorough_look_says_the_same_of_them_whatever_the_last_cell_did_with_them():
    host = PlainHost()
    for source in ("import torch", MODEL, "kept = [model(torch.ones(100, 100)) for step in range(3)]"):
        host.add(source)
    seen = MemoryProbe().ask("", host.scene())
    assert graphs(seen) == {"kept": 3 * SAVED} and seen["ledgers"]["cpu"]["frames"] == 0
    host.add("kept[0].sum().backward()")
    assert graphs(MemoryProbe().ask("", host.scene())) == {"kept": 2 * SAVED}
