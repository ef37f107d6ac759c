"""Imports that move to another module, renamed keywords, and old defaults written out."""

import pytest

from tfdiag_ipython.fixes.imports import move_module, move_symbol
from tfdiag_ipython.fixes.successor import Successor, adapt_calls, not_kept


def test_a_name_moves_and_the_others_and_the_comments_stay() -> None:
    source = (
        "%matplotlib inline\n# optimizer\nfrom transformers import (\n    AdamW,\n    Trainer,  # loop\n)\nAdamW([])\n"
    )
    moved = move_symbol(source, "AdamW", "AdamW", module="transformers", new_module="torch.optim")
    assert moved == (
        "%matplotlib inline\n# optimizer\nfrom transformers import (\n    Trainer,  # loop\n)\n"
        "from torch.optim import AdamW\nAdamW([])\n"
    )


def test_an_alias_and_a_dotted_use_follow() -> None:
    aliased = move_symbol(
        "from transformers import AdamW as Opt\n", "AdamW", "AdamW", module="transformers", new_module="torch.optim"
    )
    assert aliased == "from torch.optim import AdamW as Opt\n"
    dotted = move_symbol(
        "o = transformers.AdamW([])\n", "AdamW", "AdamW", module="transformers", new_module="torch.optim"
    )
    assert "import torch.optim" in dotted and "o = torch.optim.AdamW([])" in dotted


def test_a_same_name_of_another_library_is_left_alone() -> None:
    source = "from torchopt import AdamW\nAdamW([])\n"
    assert move_symbol(source, "AdamW", "AdamW", module="transformers", new_module="torch.optim") == source


OLD = Successor({"eps": (3, "1e-6"), "weight_decay": (4, "0.0")}, {"correct_bias": "True", "quiet": ""}, 5)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("Opt(p, lr=1, weight_decay=0.1, correct_bias=True)", "Opt(p, lr=1, weight_decay=0.1, eps=1e-6)", ""),
        ("Opt(p, 1, b, 1e-7)  # x", "Opt(p, 1, b, 1e-7, weight_decay=0.0)  # x", ""),
        ("Opt(p, 1, b, 1e-7, 0.1, True)", "Opt(p, 1, b, 1e-7, 0.1)", ""),
        ("Opt(p, 1, b, 1e-7, 0.1, False, True)", "Opt(p, 1, b, 1e-7, 0.1)", "`correct_bias=False` has no counterpart"),
        ("Opt(p, correct_bias=flag)", "Opt(p, eps=1e-6, weight_decay=0.0)", "`correct_bias=flag` has no counterpart"),
        ("Opt(*args)", "Opt(*args)", "beside `*args` the new defaults hold"),
        ("Opt(p, **o)", 'Opt(p, **{"eps": 1e-6, "weight_decay": 0.0, **o})', "`**o` may hold"),
        ("Opt(p, eps=1, weight_decay=0, **o)", "Opt(p, eps=1, weight_decay=0, **o)", "`**o` may hold"),
        ("partial(Opt, lr=1, quiet=True)", "partial(Opt, lr=1, eps=1e-6, weight_decay=0.0)", ""),
        ("transformers.AdamW(p)", "transformers.AdamW(p, eps=1e-6, weight_decay=0.0)", ""),
        ("torch.optim.AdamW(p)\nOpt(p, eps=1)", "torch.optim.AdamW(p)\nOpt(p, eps=1, weight_decay=0.0)", ""),
        ("make = Opt", "make = Opt", "not called"),
        ("", "", "calls in other cells"),
    ],
)
def test_calls_keep_the_old_defaults_and_what_cannot_be_kept_is_told(before: str, after: str, told: str) -> None:
    head = "import torch, transformers\nfrom transformers import AdamW as Opt\n"
    assert adapt_calls(head + before, "AdamW", "transformers", OLD) == head + after
    found = not_kept(head + before, "AdamW", "transformers", OLD)
    assert (told in " ".join(found)) if told else found == []


def test_a_module_path_moves() -> None:
    assert move_module(
        "from transformers.modeling_bert import X  # y\n", "transformers.modeling_bert", "transformers.models.b"
    ) == ("from transformers.models.b import X  # y\n")
