"""What holds on this machine, in one sentence; which builds run on which cards."""

import os
import stat

import pytest

from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.gpu import GpuProbe, runs_on


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_80", "sm_90"], (8, 6), True),  # binaries of the same major capability
        (["sm_80", "sm_90"], (12, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),  # PTX is compiled for later cards
        (["sm_90a"], (9, 0), True),
        (["sm_90a"], (10, 0), False),
        (["sm_80"], (7, 5), False),
        (["sm_37", "sm_50"], (5, 2), True),
        (["sm_100", "sm_120"], (12, 0), True),
        (["gfx90a"], (9, 0), True),  # not judged
    ],
)
def test_whether_a_build_has_kernels_for_a_card(archs, capability, runs):
    assert runs_on(archs, capability) is runs


def tell(tmp_path, monkeypatch, script):
    """Look with a driver's tool that prints this: what it prints was recorded."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return GpuProbe().ask("", Scene({}, live=True))


def test_a_machine_without_a_gpu_is_told_in_one_sentence(tmp_path, monkeypatch):
    seen = tell(tmp_path, monkeypatch, "echo 'No devices were found'; exit 6")
    assert seen.seen[0].value.startswith("This machine shows no GPU (nvidia-smi lists none)")


CARD = """case "$1" in
*query-gpu*) echo '0, GPU-1a, NVIDIA H100 80GB HBM3, 570.86.10, 9.0, 81559, 20390';;
*) echo 'GPU-1a, 77, /usr/bin/python3, 512'; echo 'GPU-1a, 78, [Not Found], [N/A]';;
esac"""


@pytest.mark.hf
def test_a_card_its_processes_and_a_torch_without_cuda(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.version.cuda:
        pytest.skip("this torch is built with CUDA")
    seen = tell(tmp_path, monkeypatch, CARD)
    assert "built for the CPU only: install one with CUDA" in seen.seen[0].value
    told = {one.what: one for one in seen.seen}
    card = told["GPU 0: NVIDIA H100 80GB HBM3, compute capability 9.0"]
    assert (card.value, card.share) == ("19.91 GiB of 79.65 GiB in use", pytest.approx(0.25, abs=0.001))
    assert told["GPU 0: process 77 python3"].value == "512 MiB"
    assert told["GPU 0: process 78"].value == "the driver does not say how much"


def test_a_driver_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("tfdiag_ipython.probes._nvidia_smi.SECONDS", 0.3)
    assert "did not answer" in tell(tmp_path, monkeypatch, "sleep 30").missing
