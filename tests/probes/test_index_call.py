"""Which index of the failing call is out of range: named as the program names it, read without running any of it, silent in doubt."""

import os
import subprocess
import sys

import pytest

from tfdiag_ipython.probes.index_call import IndexCallProbe
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")

SETUP = """
import torch
from types import SimpleNamespace
T, F = torch.tensor, torch.nn.functional
x = torch.zeros(3, 4)
rows, columns = T([0, 3]), T([5, 0, 1])
bad = T([[0, 1, 9], [2, 0, 0], [0, 0, -1]])
batch = {"place": T([0, 7])}
held = SimpleNamespace(places=T([7]), table=x)
"""


def look(*cells):
    host = PlainHost()
    for source in (SETUP, *cells):
        result = host.add(source)
    assert result.failure is not None
    return IndexCallProbe().look(result.failure, host.scene())


FOUND = {  # the call: what the index is called, its place and value, and what it is held against
    "x.gather(1, bad)": ("bad", (0, 2), 9, "dimension 1 of `x` has 4 entries"),
    "torch.gather(input=x, dim=-1, index=bad)": ("bad", (0, 2), 9, "dimension 1 of `x` has 4 entries"),
    "x.scatter_(1, bad, 1.0)": ("bad", (0, 2), 9, "dimension 1 of `x` has 4 entries"),
    "x.scatter_add_(dim=1, index=bad, src=torch.ones(3, 3))": ("bad", (0, 2), 9, "dimension 1 of `x` has 4 entries"),
    "x.index_select(0, rows)": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "x.index_select(1, columns)": ("columns", (0,), 5, "dimension 1 of `x` has 4 entries"),
    "x.index_add_(0, rows, torch.ones(2, 4))": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "x.index_copy_(0, rows, torch.ones(2, 4))": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "x.index_fill_(0, rows, 1.0)": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "many = batch['place'] * 9\nx.take(many)": ("many", (1,), 63, "`x` has 12 entries"),
    "x[rows]": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "chosen = [0, 2, 3]\nx[chosen]": ("chosen", (2,), 3, "dimension 0 of `x` has 3 entries"),
    "x[rows] = 1.0": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "x[rows] += 1": ("rows", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "x[:, batch['place']]": ("batch['place']", (1,), 7, "dimension 1 of `x` has 4 entries"),  # the message says 0
    "x[None, ..., batch['place']]": ("batch['place']", (1,), 7, "dimension 1 of `x` has 4 entries"),
    "x[torch.arange(3), columns]": ("columns", (0,), 5, "dimension 1 of `x` has 4 entries"),
    "x[\n    torch.arange(3),\n    columns,\n].sum()": ("columns", (0,), 5, "dimension 1 of `x` has 4 entries"),
    "held.table[held.places]": ("held.places", (0,), 7, "dimension 0 of `held.table` has 3 entries"),
    "x.gather(1, columns[:, None].long())": ("columns", (0,), 5, "dimension 1 of `x` has 4 entries"),
    "(x * 2).gather(-1, columns[:, None])": ("columns", (0,), 5, "dimension 1 of `x * 2` has 4 entries"),
    "x[0][rows][rows]": ("rows", (1,), 3, "dimension 0 of `x[0][rows]` has 2 entries"),
    "[x[one] for one in (T([1]), rows)]": ("one", (1,), 3, "dimension 0 of `x` has 3 entries"),
    "import numpy\nplaces = numpy.array([0, 7])\nx[places]": ("places", (1,), 7, "dimension 0 of `x` has 3 entries"),
    "x.gather(1, T([[5], [0], [1]]))": ("", (0, 0), 5, "dimension 1 of `x` has 4 entries"),
    "x[[0, 5]]": ("", (1,), 5, "dimension 0 of `x` has 3 entries"),
    "F.one_hot(rows, 3)": ("rows", (1,), 3, "`num_classes` is 3"),
    "F.one_hot(T([4, -1]))": ("", (1,), -1, "classes count from 0"),
}


@pytest.mark.parametrize("call", FOUND)
def test_the_index_is_named_with_its_first_bad_value_and_its_limit(call):
    seen = look(call)
    values = seen["values"]
    assert (seen["index"], values["place"], values["first"], seen["limit"]) == FOUND[call]


def test_all_offenders_are_counted():
    assert look("x.gather(1, bad)")["values"] == {
        "smallest": -1,
        "largest": 9,
        "first": 9,
        "place": (0, 2),
        "count": 2,
        "total": 9,
    }


@pytest.mark.parametrize(
    "call",
    [
        "x[5]",  # the message says it all
        "x.gather(1, bad * 2)",  # never bound to a name
        "(x * 2)[..., batch['place']]",  # of which dimension is not known
        "raise IndexError('index 3 is out of bounds for dimension 0 with size 3')",
        "def fail(index): raise IndexError('index 9 is out of bounds for dimension 0 with size 3')\nfail(x[T([2])])",
        "[1, 2][5]",
        "1 / 0",
    ],
)
def test_where_the_index_cannot_be_read_nothing_is_found_and_nothing_said(call):
    seen = look(call)
    assert not seen and not seen.missing


def test_a_bad_index_beside_the_one_that_failed_is_not_taken_for_it():
    seen = look("good, other = T([0]), T([9])", "kept = x[good]; x.gather(1, bad), x[other]")
    assert seen["index"] == "bad"


def test_the_cause_is_read_where_the_program_raised_another_exception_from_it():
    seen = look("try:\n    x[rows]\nexcept IndexError as error:\n    raise RuntimeError('training failed') from error")
    assert (seen["index"], seen["values"]["first"]) == ("rows", 3)


HOSTILE = """
armed = []
def stop():
    if armed: raise SystemExit("the person's code ran")
    return T([9])
class Hostile:
    @property
    def places(self): return stop()
    def __getattr__(self, name): return stop()
    def __getitem__(self, key): return stop()
    def __len__(self): return len(stop())
class Mine(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        stop()
        return super().__torch_function__(function, types, args, kwargs or {})
hostile, mine = Hostile(), T([9]).as_subclass(Mine)
"""


@pytest.mark.parametrize(
    "index", ["hostile.places", "hostile.other", "hostile['key']", "hostile.places[:, None]", "mine"]
)
def test_nothing_of_the_persons_runs(index):
    seen = look(HOSTILE, f"try:\n    x[{index}]\nfinally:\n    armed.append(1)")
    assert not seen and not seen.missing


def test_the_notebooks_name_is_given_where_a_library_has_its_own():
    seen = look(
        "from torch.utils.data import TensorDataset\nnumbers = T([0, 5])",
        "TensorDataset(x)[numbers]",
    )
    assert (seen["index"], seen["own"], seen["limit"]) == ("numbers", True, "dimension 0 of `tensor` has 3 entries")
    assert "dataset.py" in seen["where"]


def test_without_the_place_in_the_line_the_whole_statement_is_read():
    """Before Python 3.11 a traceback knows only the line: as in an interpreter that keeps no columns."""
    code = f"""
from tfdiag_ipython.probes.index_call import IndexCallProbe
from tfdiag_ipython.testing import PlainHost
host = PlainHost()
host.add('''{SETUP}''')
for call in ("kept = x[T([0])]; y = x[rows]", "for one in (rows,):\\n    x.gather(\\n        1,\\n        bad,\\n    )", "x[rows], x[T([4])]"):
    failure = host.add(call).failure
    print(IndexCallProbe().look(failure, host.scene()).get("index"))
"""
    environment = {**os.environ, "PYTHONNODEBUGRANGES": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["rows", "bad", "rows"]
