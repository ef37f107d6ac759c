"""A notebook's kernel whose CUDA context dies, or whose card is full: what is said, what is refused, and what the restart brings.

Needs IPython and ipykernel beside torch, or it is skipped. Each kernel uses a few MiB of the card; the shortages, a share of 2 GiB.
"""

from __future__ import annotations

import asyncio

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ipykernel")
pytest.importorskip("ipywidgets")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

from tests.shell.kernels import Kernel  # noqa: E402
from tests.shell.test_restart import IMPORTS, RUN, restart_by_click  # noqa: E402
from tfdiag_ipython.rules.mem._gpu_examples import GPU_LEAKS, GPU_PIECES, SHARE  # noqa: E402

SETUP = """
import torch
from transformers import BertConfig, BertForSequenceClassification
sizes = dict(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
model = BertForSequenceClassification(BertConfig(num_labels=3, **sizes)).cuda()
ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
labels = torch.tensor([1, 2, 3])
"""
LOSS = "loss = model(ids.cuda(), labels=labels.cuda()).loss\nprint(loss.item())"
CLICK = """
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.shell.extension import extension_of
session = extension_of(get_ipython()).last
plan = session.plan(session.diagnoses[0], session.diagnoses[0].fix({!r}))
done, verification = session.apply(plan, Progress())
print(done, verification.status.value)
"""


@pytest.fixture
def kernel(monkeypatch):
    """A kernel as a server starts it: under pytest's own variable ipykernel leaves the descriptors alone."""
    with monkeypatch.context() as patch:
        patch.delenv("PYTEST_CURRENT_TEST")
        started = Kernel()
    ran = started.run("%load_ext tfdiag_ipython")
    assert ran.reply["status"] == "ok", ran.text
    yield started
    started.close()


def test_an_assert_names_its_operation_and_the_labels_that_are_still_on_the_host(kernel):
    kernel.run(SETUP)
    ran = kernel.run(LOSS)
    assert ran.reply["status"] == "error" and "device-side assert" in ran.reply["evalue"]
    assert "IDX004" in ran.text and "restart the kernel" in ran.text
    assert "`labels` holds 3, and `model.config.num_labels` is 3" in ran.text
    assert "The kernel's own words: t >= 0 && t < n_classes" in ran.text


def test_after_an_assert_nothing_of_ours_touches_cuda(kernel):
    kernel.run(SETUP)
    kernel.run(LOSS)
    for probe in ("memory", "gpu", "fits model ids", "padding model ids"):
        told = kernel.run(f"%tfdiag probe {probe}").text
        assert "dead" in told and "Traceback" not in told, told
    later = kernel.run("print(model.classifier.weight.sum().item())")
    assert "IDX004" in later.text  # whatever touches CUDA now fails with the same error
    assert "42" in kernel.run("print(6 * 7)").text


def test_an_id_outside_the_embedding_is_named_by_the_kernels_words(kernel):
    kernel.run(SETUP)
    ran = kernel.run("rows = model.bert.embeddings.word_embeddings(ids.cuda() + 100)\nprint(rows.sum().item())")
    assert "An id is outside the embedding" in ran.text and "IDX004" in ran.text


def test_the_guard_names_the_label_a_click_mends_it_and_cuda_lives(kernel):
    kernel.run(SETUP)
    ran = kernel.run(f"%%tfdiag --guard\n{LOSS}")
    assert ran.reply["ename"] == "GuardedIndexError" and "`target[2]` is 3" in ran.reply["evalue"]
    assert "`labels` holds 3, and `model.config.num_labels` is 3" in ran.text and "IDX003" in ran.text
    assert "verified" in kernel.run(CLICK.format("shift-labels")).text
    assert "alive 2.0" in kernel.run("print('alive', torch.ones(2, device='cuda').sum().item())").text


def test_a_full_card_is_named_and_a_click_deletes_the_leak(kernel):
    kernel.run(GPU_LEAKS)
    ran = kernel.run("more = torch.ones(2**28, device='cuda')")
    assert "MEM001" in ran.text and "`results` holds 1.25 GiB" in ran.text
    before = int(kernel.run("print(torch.cuda.memory_allocated())").text)
    assert "verified" in kernel.run(CLICK.format("delete-variable")).text
    after = int(kernel.run("print(torch.cuda.memory_allocated())").text)
    assert after <= before - 20 * 2**26


def test_what_the_failed_cell_holds_on_the_card_is_given_back(kernel):
    kernel.run(SHARE)
    before = int(kernel.run("print(torch.cuda.memory_allocated())").text)
    ran = kernel.run(
        "def step():\n    hidden = torch.ones(2**28, device='cuda')\n    return torch.ones(2**29, device='cuda')\nstep()"
    )
    assert "`step: hidden`" in ran.text
    assert "verified" in kernel.run(CLICK.format("free-failed-cell")).text
    assert int(kernel.run("print(torch.cuda.memory_allocated())").text) == before


def test_memory_in_pieces_is_told_from_a_full_card(kernel):
    kernel.run(GPU_PIECES)
    assert "in pieces" in kernel.run("more = torch.empty(300 * 2**20, dtype=torch.uint8, device='cuda')").text


def test_the_restart_runs_the_failing_cell_with_the_guard_on():
    _, listed, ran, alive = asyncio.run(
        restart_by_click(
            (
                "%load_ext tfdiag_ipython",
                f"{IMPORTS}\n{RUN}",
                "print('alive', torch.ones(2, device='cuda').sum().item())",
            ),
            cells=("%load_ext tfdiag_ipython", SETUP, LOSS),
            fix="restart-kernel",
        )
    )
    assert "with the index guard on" in listed
    assert "`target[2]` is 3" in ran
    assert "alive 2.0" in alive
