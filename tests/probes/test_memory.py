"""Who holds what: by name, each storage once."""

import pytest

from tfdiag_ipython.failure import Failure
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
    assert dict(seen["variables"]) == {"kept": 4000, "hostile": 440}
