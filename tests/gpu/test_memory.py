"""What only a GPU shows: real shortages, real fragmentation, the ledger against PyTorch's own books.

Needs torch, transformers and pytest alone. Each test may use 2 GiB of the card.
"""

from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

from tfdiag_ipython.api import registry  # noqa: E402
from tfdiag_ipython.diagnosis import Certainty, Status  # noqa: E402
from tfdiag_ipython.engine import Engine  # noqa: E402
from tfdiag_ipython.failure import Failure  # noqa: E402
from tfdiag_ipython.probes.gpu import GpuProbe  # noqa: E402
from tfdiag_ipython.probes.memory import MemoryProbe  # noqa: E402
from tfdiag_ipython.rules.mem._gpu_examples import GPU_DEEP, GPU_LEAKS, GPU_PIECES, SHARE, gpu_arguments  # noqa: E402
from tfdiag_ipython.shortage import out_of_memory  # noqa: E402
from tfdiag_ipython.testing import PlainHost  # noqa: E402

OWN = ("parameters", "gradients", "optimizer", "variables", "outputs", "frames", "unnamed", "other")


@pytest.fixture
def host():
    """A program with a share of 2 GiB of the card, all of which is given back."""
    program = PlainHost()
    program.add(SHARE)
    yield program
    program.release()
    program.namespace.clear()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


def diagnosed(host, *cells):
    for cell in cells:
        host.add(cell)
    assert host.exception is not None, "the last cell was to fail"
    assert out_of_memory(host.exception) is Certainty.LIKELY
    return Engine(registry()).diagnose(Failure.from_exception(host.exception), host.scene())[0]


def test_the_ledgers_rows_add_up_to_what_pytorch_has_allocated(host):
    host.add(
        "model = torch.nn.Linear(2048, 2048).cuda()\noptimizer = torch.optim.AdamW(model.parameters())\n"
        "inputs = torch.ones(512, 2048, device='cuda')\nloss = model(inputs).relu().sum()\nloss.backward()\noptimizer.step()\n"
        "loss = model(inputs).relu().sum()  # holds its graph"
    )
    evidence = MemoryProbe().ask("", host.scene())
    ledger, weights = evidence["ledgers"]["cuda:0"], 4 * (2048 * 2048 + 2048)
    assert (ledger["parameters"], ledger["gradients"]) == (weights, weights)
    assert 2 * weights <= ledger["optimizer"] <= 2 * weights + 1024
    assert ledger["variables"] >= 4 * 512 * 2048
    assert ledger["other"] >= 4 * 512 * 2048  # what relu saved for backward
    assert sum(ledger[row] for row in OWN) == torch.cuda.memory_allocated()
    assert ledger["cached"] == torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    total = sum(size for row, size in ledger.items() if row != "total")
    assert total == pytest.approx(ledger["total"], rel=0.02)


def test_an_allocation_that_no_device_could_give(host):
    found = diagnosed(host, "torch.empty(2**44, dtype=torch.uint8, device='cuda')")
    assert found.code == "MEM001" and "16 TiB" in found.title


def test_variables_of_earlier_cells_are_named_and_deleted(host):
    found = diagnosed(host, GPU_LEAKS, "more = torch.ones(2**28, device='cuda')")
    assert found.certainty is Certainty.CONFIRMED and "`results` holds 1.25 GiB" in found.title
    before = torch.cuda.memory_allocated()
    engine = Engine(registry())
    plan = engine.plan(found, found.fix("delete-variable"), host.scene(), Failure.from_exception(host.exception))
    _, verification = engine.apply(plan)
    assert verification.status is Status.VERIFIED
    assert torch.cuda.memory_allocated() <= before - 20 * 2**26


def test_free_memory_in_pieces_is_told_from_a_full_device(host):
    found = diagnosed(host, GPU_PIECES, "more = torch.empty(300 * 2**20, dtype=torch.uint8, device='cuda')")
    assert "in pieces" in found.title
    assert "expandable-segments" in {fix.id for fix in found.fixes}


def test_what_the_failed_cell_holds_is_given_back(host):
    before = torch.cuda.memory_allocated()
    step = "def step():\n    hidden = torch.ones(2**28, device='cuda')\n    return torch.ones(2**29, device='cuda')\nstep()"
    found = diagnosed(host, step)
    assert "`step: hidden` holds 1 GiB" in found.title
    assert torch.cuda.memory_allocated() - before == 2**30
    engine = Engine(registry())
    plan = engine.plan(found, found.fix("free-failed-cell"), host.scene(), Failure.from_exception(host.exception))
    engine.apply(plan)
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.memory_reserved() <= before + 2**21


def test_the_batch_is_the_cause_of_a_real_training_and_its_edits_are_offered(host):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    found = diagnosed(host, GPU_DEEP, gpu_arguments(16), "Trainer(model(24), arguments, train_dataset=data).train()")
    assert "the batch (per_device_train_batch_size=16) or its sequences are too large" in found.title
    assert {"halve-batch", "checkpoint-activations", "half-precision"} <= {fix.id for fix in found.fixes}
    assert "Predicted to save about" in found.fix("checkpoint-activations").explanation


def test_the_gpu_probe_finds_kernels_for_this_card_and_a_living_context(host):
    torch.ones(1, device="cuda")
    evidence = GpuProbe().ask("", host.scene())
    assert (evidence["context"], evidence["unmatched"]) == ("alive", ())
    assert evidence["archs"] and evidence["build"]
