"""The index guard and what is compiled: it is not checked, that is said, and compiling is what it is without the guard."""

import subprocess
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")

import tfdiag_ipython  # noqa: E402
from tfdiag_ipython.watch.index_guard import GuardWarning  # noqa: E402

T = torch.tensor
TABLE = torch.nn.Embedding(4, 2)


COMPILES = """
import torch, tfdiag_ipython

def rows(table, ids):
    return torch.nn.functional.embedding(ids, table).gather(0, ids[:, None]) + table[ids] + torch.gather(table, 0, ids[:, None])

def other(table, ids):
    return rows(table, ids) * 2

table, ids = torch.arange(8.0).view(4, 2), torch.tensor([1, 0])
{before}
with tfdiag_ipython.guard() as watching:
    guarded = torch.compile(rows, backend="eager", fullgraph=True)
    for _ in range(3):
        assert torch.equal(guarded(table, ids), rows(table, ids))
    scripted = torch.jit.script(torch.nn.Embedding(4, 2))
    assert scripted(ids).shape == (2, 2)
assert "torch.compile" in watching.left_out
for function in (guarded, torch.compile(other, backend="eager", fullgraph=True)):
    function(table, ids)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 3  # under the guard, after it, and the other one
rules = torch._dynamo.trace_rules.get_torch_obj_rule_map()
assert torch.gather in rules and torch.embedding in rules
print("alike")
"""


@pytest.mark.parametrize("before", ["", "import torch._dynamo"])
def test_compiling_and_scripting_know_pytorchs_functions_under_the_guard_and_after_it(before):
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILES.format(before=before)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "alike\n", ran.stderr


def test_what_is_compiled_or_traced_is_not_checked_and_that_is_said():
    compiled = torch.compile(lambda ids: TABLE(ids) * 2, backend="eager")
    with pytest.warns(GuardWarning, match="what torch.compile compiled"), tfdiag_ipython.guard():
        assert compiled(T([1])).shape == (1, 2)
    with pytest.warns(GuardWarning, match="what torch.jit traced"), tfdiag_ipython.guard():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(TABLE, T([1]))


def test_what_was_compiled_before_is_not_checked_and_that_is_said_each_time():
    compiled = torch.compile(lambda ids: TABLE(ids) * 2, backend="eager")
    compiled(T([1]))
    for _ in range(2):
        with pytest.warns(GuardWarning, match="what torch.compile compiled"), tfdiag_ipython.guard():
            compiled(T([1]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_torchscript_runs_is_not_checked_and_that_is_said():
    scripted = torch.jit.script(TABLE)
    with pytest.warns(GuardWarning, match="what TorchScript ran"), tfdiag_ipython.guard():
        scripted(T([1]))
