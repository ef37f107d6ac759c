"""Of a loop's calls a sample is kept that is spread over it, for ids in device memory are read only when the cell has ended.

A decoder whose rows begin with padding stands for a device here: each of its calls is kept though nothing is wrong with it.
"""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.watch.test_padding import made, watched  # noqa: E402
from tfdiag_ipython.watch.padding_calls import PART  # noqa: E402

pytestmark = pytest.mark.hf
SETUP = "left, right, wrong = ids.flip(1), mask.flip(1), torch.ones_like(mask)\n"
LOOP = SETUP + "for i in range({}):\n    model(left, attention_mask={} if {} else right)"


@pytest.mark.parametrize(
    ("calls", "where"),
    [
        (20, "i >= 8"),  # from the ninth batch on
        (60, "i == 59"),  # only the last
        (60, "i == 0"),
        (90, "i % 2"),  # in turn
        (90, "i > 30"),
    ],
)
def test_padding_that_a_mask_contradicts_late_in_a_loop_is_found(calls, where):
    (found,) = watched(LOOP.format(calls, "wrong", where), model=made("llama"))
    assert found.facts["cause"] == "contradicted"


def test_a_loop_in_which_nothing_is_wrong_stays_silent():
    assert watched(LOOP.format(60, "right", "i % 3"), model=made("llama")) == []


def test_few_of_a_loops_batches_are_kept_and_none_when_the_cell_has_ended():
    import gc
    import weakref

    source = """
for i in range(60):
    part = ids.flip(1).clone()
    refs.append(weakref.ref(part))
    model(part, attention_mask=mask.flip(1))
    del part
gc.collect()
kept.append(sum(ref() is not None for ref in refs))
"""
    kept, refs = [], []
    assert watched(source, model=made("llama"), refs=refs, kept=kept, weakref=weakref, gc=gc) == []
    gc.collect()
    assert 0 < kept[0] <= 3 * PART and not any(ref() is not None for ref in refs)


def test_models_made_anew_in_a_loop_are_bounded_too():
    import gc
    import weakref

    source = """
for i in range(90):
    part = ids.clone()
    refs.append(weakref.ref(part))
    models.append(make())
    models[-1](part)
    del part
gc.collect()
kept.append(sum(ref() is not None for ref in refs))
"""
    bert, kept, models = made("bert", num_hidden_layers=1), [], []
    names = {
        "refs": [],
        "kept": kept,
        "models": models,
        "weakref": weakref,
        "gc": gc,
        "make": lambda: type(bert)(bert.config),
    }
    (found,) = watched(source, **names)
    assert found.facts["cause"] == "mask" and kept[0] < 70


def test_the_persons_random_numbers_are_as_without_the_watch():
    import random

    random.seed(7)
    expected = random.Random(7).random()
    watched(LOOP.format(30, "right", "True"), model=made("llama"))
    assert random.random() == expected
