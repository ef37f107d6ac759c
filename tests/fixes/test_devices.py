from __future__ import annotations

import pytest

from tfdiag_ipython.fixes.devices import CHOICE, choose_device
from tfdiag_ipython.probes.cuda_setup import WRITTEN, hides_all


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("model.cuda()  # fast\n", f"model.to({CHOICE})  # fast\n"),
        ("x = x.cuda(0)\n", f"x = x.to({CHOICE})\n"),
        ("x = x.to('cuda', torch.half)\n", f"x = x.to({CHOICE}, torch.half)\n"),
        ("device = torch.device('cuda:0')\n", f"device = torch.device({CHOICE})\n"),
        ("device = 'cuda'\n", f"device = {CHOICE}\n"),
        ("pipe = pipeline('fill-mask', device=0)\n", f"pipe = pipeline('fill-mask', device={CHOICE})\n"),
        ("def load(device='cuda'):\n    pass\n", f"def load(device={CHOICE}):\n    pass\n"),
        (
            "!nvidia-smi\nm = M.from_pretrained(p, device_map='cuda')\n",
            f"!nvidia-smi\nm = M.from_pretrained(p, device_map={CHOICE})\n",
        ),
    ],
)
def test_the_choice_stands_where_the_gpu_was_asked_for(before: str, after: str) -> None:
    assert choose_device(before) == after
    assert WRITTEN.search(before)


@pytest.mark.parametrize(
    "source",
    [
        "torch.cuda.synchronize()\n",
        "x.to('cuda:1')\n",
        "if name == 'cuda':\n    pass\n",
        "y = f(0)\n",
        "with torch.cuda.device('cuda:0'):\n    pass\n",
        "backend = 'cuda'\n",
        "platform: str = 'cuda'\n",
        "def plot(color='cuda'):\n    pass\n",
    ],
)
def test_what_means_something_else_stays(source: str) -> None:
    assert choose_device(source, imports=True) == source
    assert WRITTEN.search(source) is None  # so that no button is offered


def test_the_import_comes_with_the_choice() -> None:
    assert choose_device("layer.cuda()\n", imports=True).startswith("import torch\n")


@pytest.mark.parametrize(
    ("visible", "cards", "hidden"),
    [
        ("", 1, True),
        ("-1", 1, True),
        ("0", 1, False),
        ("1", 1, True),
        ("1", 0, False),  # how many there are is not known
        ("1,0", 2, False),
        ("0,7", 1, False),
        ("GPU-5ebe9f43", 1, False),
    ],
)
def test_which_lists_hide_every_card(visible: str, cards: int, hidden: bool) -> None:
    assert hides_all(visible, cards) is hidden
