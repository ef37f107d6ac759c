"""The number of classes is set where the model in question is made, not where another one is."""

import pytest

from tfdiag_ipython.rules.idx.target_out_of_range import set_num_labels


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a, b = Config(num_labels=2), Config(num_labels=5)", "a, b = Config(num_labels=3), Config(num_labels=5)"),
        ("Config(num_labels=COUNT)  # mine", "Config(num_labels=3)  # mine"),
        (
            "BertForTokenClassification.from_pretrained(p)",
            "BertForTokenClassification.from_pretrained(p, num_labels=3, ignore_mismatched_sizes=True)",
        ),
        *(2 * (same,) for same in ("BertForTokenClassification.from_pretrained(p, num_labels=7)", "Config(size=2)")),
    ],
)
def test_only_a_model_with_as_many_classes_gets_more(before, after):
    assert set_num_labels(before, 2, 3) == after
