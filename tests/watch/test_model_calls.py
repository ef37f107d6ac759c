"""Calls of a model class are seen while they are watched, and run as always."""

import pytest

from tfdiag_ipython.watch.model_calls import by_name, calls_of

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")


class Inner(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None):
        return input_ids


class Model(Inner):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, input_ids, attention_mask=None):
        return self.inner(input_ids)


def test_arguments_are_handed_over_and_the_class_is_as_before():
    seen, model = [], Model()
    with calls_of(Inner, lambda model, args, kwargs: seen.append(dict(by_name(model, args, kwargs)))):
        assert model(1, attention_mask=2) == 1  # the call of the inner model is none of the person's
        assert Model()(3) == 3  # another model, made while the class is watched
    assert seen == [{"input_ids": 1, "attention_mask": 2}, {"input_ids": 3}]
    assert model(4) == 4 and len(seen) == 2 and "__call__" not in Inner.__dict__


def test_the_end_of_a_call_is_told():
    told = []
    with calls_of(Inner, lambda *call: lambda: told.append("ended")):
        Inner()(1)
    assert told == ["ended"]


def test_a_fault_of_the_watch_costs_the_program_nothing():
    with calls_of(Model, lambda *call: 1 / 0):
        assert Model()(1) == 1
    with calls_of(Model, lambda *call: None), pytest.raises(TypeError):
        Model()(1, 2, 3)
