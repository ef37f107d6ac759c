"""Where the probe says that a model and its inputs are; the meta device stands in for a second one."""

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probes.devices import DevicesProbe
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
pytest.importorskip("torch")


def look(*cells):
    host = PlainHost()
    for source in ("import torch", *cells):
        host.add(source)
    assert host.exception is not None
    return DevicesProbe().look(Failure.from_exception(host.exception), host.scene())


def test_the_model_and_its_input_are_named_with_their_devices():
    seen = look("model = torch.nn.Linear(2, 2)", "batch = torch.ones(1, 2, device='meta')", "model(batch)")
    assert (seen["model"], seen["model_devices"]) == ("model", ("cpu",))
    assert (seen["variable"], seen["inputs"], seen["movable"]) == ("batch", {"input": "meta"}, True)


def test_a_model_split_over_devices_has_both():
    parts = "torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device='meta')"
    seen = look(f"model = torch.nn.Sequential({parts})", "model(torch.ones(1, 2))")
    assert seen["model_devices"] == ("cpu", "meta") and seen["variable"] == ""


def test_a_dictionary_is_named_and_has_no_to_of_its_own():
    seen = look(
        "model = torch.nn.Linear(2, 2)", "inputs = {'input': torch.ones(1, 2, device='meta')}", "model(**inputs)"
    )
    assert (seen["variable"], seen["movable"]) == ("inputs", False)


def test_a_failure_outside_a_model_says_why_it_saw_nothing():
    assert "forward" in look("torch.ones(2) + torch.ones(3)").missing


def test_what_forward_made_itself_and_single_numbers_are_no_inputs():
    body = (
        "    def forward(self, x, scale):\n        mask = torch.ones(2, device='meta')\n        return x * mask * scale"
    )
    make = f"class Net(torch.nn.Module):\n{body}\nmodel, x, scale = Net(), torch.ones(2), torch.tensor(2.0)"
    assert look(make, "model(x, scale)")["inputs"] == {"x": "cpu"}
