"""Calls of a model class are seen while they are watched, and run as always."""

import pytest

from tfdiag_ipython.watch.model_calls import calls_of

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")


class Model(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None):
        return input_ids


def test_arguments_are_handed_over_by_name_and_the_class_is_as_before():
    seen, model = [], Model()
    with calls_of(Model, lambda arguments: seen.append(dict(arguments))):
        assert model(1, attention_mask=2) == 1
        assert Model()(3) == 3  # another model of the class, made while it is watched
    assert seen == [{"input_ids": 1, "attention_mask": 2}, {"input_ids": 3}]
    assert model(4) == 4 and len(seen) == 2 and "__call__" not in Model.__dict__


def test_a_fault_of_the_watch_costs_the_program_nothing():
    with calls_of(Model, lambda arguments: 1 / 0):
        assert Model()(1) == 1
    with calls_of(Model, lambda arguments: None), pytest.raises(TypeError):
        Model()(1, 2, 3)
