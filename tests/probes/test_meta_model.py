"""Only a model that is wholly on meta is reported."""

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Cell, Scene
from tfdiag_ipython.probes.meta_model import MetaModelProbe

pytestmark = pytest.mark.hf


def look(**variables):
    return MetaModelProbe().look(Failure.from_text("NotImplementedError: x"), Scene(variables, live=True))


def test_a_model_on_meta_is_found_by_its_variable():
    import torch

    with torch.device("meta"):
        empty = torch.nn.Linear(2, 2)
    seen = look(real=torch.nn.Linear(2, 2), empty=empty)
    assert (seen["variable"], seen["model"], seen["parameters"]) == ("empty", "Linear", 2)


def test_of_several_the_one_that_the_failing_cell_names_is_told():
    import torch

    with torch.device("meta"):
        first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    scene = Scene({"first": first, "second": second}, cells=[Cell(1, "second.to('cpu')")], live=True)
    assert MetaModelProbe().look(Failure.from_text("NotImplementedError: x"), scene)["variable"] == "second"


def test_a_model_that_is_partly_loaded_is_another_matter():
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    assert not look(model=model)


def test_a_variable_that_lies_about_its_class_is_left_alone():
    import torch

    class Liar:
        @property
        def __class__(self):
            raise RuntimeError("hands off")

    assert "no model" in look(liar=Liar(), tensor=torch.ones(1)).missing
