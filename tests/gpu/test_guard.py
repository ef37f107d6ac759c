"""What only a GPU shows of the index guard: the context stays alive, and almost no check asks the device.

Needs torch, transformers and pytest alone. Each test uses a few MiB of the card.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

import tfdiag_ipython  # noqa: E402
from tfdiag_ipython.watch.index_guard import GuardWarning  # noqa: E402

functional = torch.nn.functional
CHILD = """
import torch
import tfdiag_ipython

torch.cuda.set_per_process_memory_fraction(0.05)
table = torch.nn.Embedding(4, 2, device="cuda")
bad = torch.tensor([1, 9], device="cuda")
{call}
try:
    print("alive", torch.ones(2, device="cuda").sum().item())
except RuntimeError as error:
    print("dead")
"""


def child(call):
    """What a process of its own prints, whose CUDA context may die."""
    ran = subprocess.run([sys.executable, "-c", CHILD.format(call=call)], capture_output=True, text=True, timeout=120)
    return ran.stdout


def test_without_the_guard_the_context_dies_and_with_it_it_lives():
    plain = "try:\n    table(bad); torch.cuda.synchronize()\nexcept RuntimeError as error:\n    print(error)"
    assert "device-side assert" in child(plain) and child(plain).endswith("dead\n")
    guarded = (
        "try:\n    with tfdiag_ipython.guard():\n        table(bad)\nexcept IndexError as error:\n    print(error)"
    )
    told = child(guarded)
    assert "`input[1]` is 9, and `weight` has 4 rows (0 to 3)" in told and told.endswith("alive 2.0\n")


BAD = {
    "cross_entropy": lambda i: functional.cross_entropy(torch.zeros(2, 3, device="cuda"), i),
    "one_hot": lambda i: functional.one_hot(i, 3),
    "gather": lambda i: torch.zeros(2, 3, device="cuda").gather(1, i[None]),
    "scatter_": lambda i: torch.zeros(2, 3, device="cuda").scatter_(1, i[None], 1.0),
    "index_select": lambda i: torch.zeros(3, 2, device="cuda").index_select(0, i),
    "x[index]": lambda i: torch.zeros(3, 2, device="cuda")[i],
    "embedding_bag": lambda i: functional.embedding_bag(i[None], torch.zeros(3, 2, device="cuda")),
}


@pytest.mark.parametrize("call", BAD.values(), ids=BAD)
def test_every_kind_of_bad_index_is_stopped_on_the_device(call):
    indices = torch.tensor([1, 0], device="cuda") + torch.tensor(
        [0, 7], device="cuda"
    )  # made on the device: must be read
    with pytest.raises(IndexError, match="is 7"), tfdiag_ipython.guard():
        call(indices)
    torch.cuda.synchronize()


def test_what_comes_from_the_host_is_checked_without_asking_the_device():
    table, head = torch.nn.Embedding(50, 8, device="cuda"), torch.nn.Linear(8, 5, device="cuda")
    ids, labels = torch.randint(50, (4, 16)), torch.randint(5, (4, 16))
    labels[:, 10:] = -100
    with tfdiag_ipython.guard() as watching:
        torch.cuda.set_sync_debug_mode("error")  # whoever waits for the device is refused
        try:
            on_device, targets = ids.to("cuda", non_blocking=True), labels.to("cuda", non_blocking=True)
            shifted = functional.pad(targets, (0, 1), value=-100)[..., 1:].contiguous()
            with torch.autocast("cuda", torch.bfloat16):
                loss = functional.cross_entropy(head(table(on_device)).float().view(-1, 5), shifted.view(-1))
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert watching.checked >= 2 and not watching.unchecked
    labels[0, 3] = 5
    with pytest.raises(IndexError, match=r"`target\[3\]` is 5"), tfdiag_ipython.guard():
        functional.cross_entropy(head(table(ids.cuda())).view(-1, 5), labels.cuda().view(-1))


def test_on_another_stream():
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), tfdiag_ipython.guard(), pytest.raises(IndexError, match="is 9"):
        indices = torch.zeros(1000, dtype=torch.long, device="cuda")
        indices[999:] = 9
        torch.zeros(3, device="cuda")[indices]
    stream.synchronize()


def test_what_a_graph_records_is_not_checked_and_that_is_said():
    table, ids = torch.nn.Embedding(4, 2, device="cuda"), torch.tensor([1, 3], device="cuda")
    table(ids)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.warns(GuardWarning, match="what a CUDA graph recorded"), tfdiag_ipython.guard():
        with torch.cuda.graph(graph):
            rows = table(ids)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(rows, table(ids))
