"""Who holds what: by name, each storage once."""

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probes._nvidia_smi import Device, Process, read_device, read_process
from tfdiag_ipython.probes.memory import MemoryProbe
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
pytest.importorskip("torch")


def look(*cells):
    host = PlainHost()
    for source in ("import torch", *cells):
        host.add(source)
    failure = Failure.from_exception(host.exception) if host.exception else Failure.from_text("ValueError: x")
    return MemoryProbe().look(failure, host.scene())


def test_a_view_is_not_counted_again():
    seen = look("whole = torch.zeros(1000)", "part = whole[:10]")
    assert dict(seen["variables"]) == {"whole": 4000}


def test_members_of_containers_and_parameters_of_models_count():
    seen = look("kept = [torch.zeros(250), {'x': torch.zeros(250)}]", "model = torch.nn.Linear(10, 10)")
    assert dict(seen["variables"]) == {"kept": 2000, "model": 440}


def test_what_only_the_failed_cell_holds_is_told_apart():
    seen = look(
        "kept = torch.zeros(1000)",
        "def step():\n    lost = torch.zeros(500)\n    alias = kept\n    raise ValueError",
        "step()",
    )
    assert dict(seen["frames"]) == {"step: lost": 2000}
    assert seen["frame_bytes"] == 2000


def test_what_a_failing_loop_needs_goes_by_the_name_of_its_loader_whose_batch_is_found():
    seen = look(
        "data = torch.utils.data.TensorDataset(torch.zeros(1000))\nold = torch.zeros(500)",
        "other = torch.utils.data.DataLoader(data, batch_size=8)\nloader = torch.utils.data.DataLoader(data, batch_size=64)",
        "def train():\n    for (rows,) in loader:\n        raise ValueError\n",
        "train()",
    )
    assert dict(seen["variables"]) == {"loader": 4000, "old": 2000}
    assert {"train", "loader"} <= set(seen["read"]) and not {"data", "old", "other"} & set(seen["read"])
    assert seen["loader"] == {"size": 64, "cell": "cell 3"}


HOSTILE = """
class Hostile(torch.nn.Linear):
    @property
    def __class__(self): raise RuntimeError("asked for its class")
    def parameters(self, recurse=True): raise RuntimeError("asked for its parameters")
class Broken(dict):
    def values(self): raise RuntimeError("asked for its values")
hostile, broken = Hostile(10, 10), Broken(a=torch.zeros(1))
"""


def test_an_object_that_raises_when_it_is_asked_costs_the_others_nothing():
    seen = look(HOSTILE, "kept = torch.zeros(1000)")
    assert dict(seen["variables"]) == {"kept": 4000, "hostile": 440, "broken": 4}


TRAINED = """
model = torch.nn.Linear(1000, 1000, bias=False)
tied = torch.nn.Linear(1000, 1000, bias=False)
tied.weight = model.weight
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(8, 1000)).sum().backward()
optimizer.step()
"""
MEGA = 4_000_000


def test_weights_gradients_and_optimizer_state_are_told_apart_and_tied_weights_count_once():
    ledger = look(TRAINED)["ledgers"]["cpu"]
    assert (ledger["parameters"], ledger["gradients"]) == (MEGA, MEGA)
    assert 2 * MEGA <= ledger["optimizer"] <= 2 * MEGA + 100


def test_displayed_values_closures_fields_and_arrays_are_found_under_their_names():
    seen = look(
        "import numpy\narray = numpy.ones(1000)\nshared = torch.from_numpy(array)\nsame = shared.numpy()",
        "class Bag: pass\nbag = Bag()\nbag.inside = [torch.zeros(500)]",
        "def make():\n    kept = torch.zeros(750)\n    return lambda: kept\nclosure = make()",
        "Out = {3: torch.zeros(250)}",
    )
    held = dict(seen["variables"])
    assert sum(held.get(name, 0) for name in ("array", "shared", "same")) == 8000
    assert (held["bag"], held["closure"]) == (2000, 3000)
    assert seen["outputs"] == (("Out[3]", 1000),)


def test_the_rows_add_up_to_the_memory_of_this_process():
    ledger = look("kept = torch.ones(5_000_000)")["ledgers"]["cpu"]
    own = sum(size for row, size in ledger.items() if row not in ("total", "free", "foreign"))
    assert own == pytest.approx(look("pass")["resident"], rel=0.1)


def test_a_thorough_look_finds_tensors_that_no_name_leads_to():
    host = PlainHost()
    host.add("import torch\nclass Slots:\n    __slots__ = ('inside',)\nbag = Slots()\nbag.inside = torch.ones(2**20)")
    ledger = MemoryProbe().ask("", host.scene())["ledgers"]["cpu"]
    assert ledger["unnamed"] >= 2**22


OVERRIDDEN = """
class Loud(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        called.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})
called = []
loud = torch.zeros(1000).as_subclass(Loud)
called.clear()
"""


def test_a_tensor_subclass_of_the_persons_is_read_without_calling_it():
    host = PlainHost()
    for source in ("import torch", OVERRIDDEN):
        host.add(source)
    seen = MemoryProbe().look(Failure.from_text("ValueError: x"), host.scene())
    assert dict(seen["variables"])["loud"] == 4000
    assert host.namespace["called"] == []


def test_what_nvidia_smi_prints_is_read():
    card = read_device(["0", "GPU-1a", "NVIDIA H100 80GB HBM3", "570.86.10", "9.0", "81559", "1024"])
    assert card == Device(0, "GPU-1a", "NVIDIA H100 80GB HBM3", "570.86.10", (9, 0), 81559 * 2**20, 2**30)
    assert read_process(["GPU-1a", "77", "/usr/bin/python3", "512"], {"GPU-1a": 0}) == Process(0, 77, "python3", 2**29)
    assert read_process(["GPU-1a", "78", "[Not Found]", "[N/A]"], {"GPU-1a": 0}) == Process(0, 78, "", 0)
    assert read_device(["No devices were found"]) is None and read_process(["x"], {}) is None
