"""Imports that move to another module, renamed keywords, and old defaults written out."""

from tfdiag_ipython.fixes.imports import move_module, move_symbol
from tfdiag_ipython.fixes.source import calls_to, keep_defaults


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


def test_old_defaults_are_written_out_only_where_the_call_leaves_them() -> None:
    values = {"eps": (3, "1e-6"), "weight_decay": (4, "0.0")}
    edited = keep_defaults(
        "AdamW(p, lr=1, weight_decay=0.1, correct_bias=True)", calls_to("AdamW"), values, ("correct_bias",)
    )
    assert edited == "AdamW(p, lr=1, weight_decay=0.1, eps=1e-6)"
    assert keep_defaults("AdamW(*args)", calls_to("AdamW"), values) == "AdamW(*args)"


def test_a_module_path_moves() -> None:
    assert move_module(
        "from transformers.modeling_bert import X  # y\n", "transformers.modeling_bert", "transformers.models.b"
    ) == ("from transformers.models.b import X  # y\n")
