"""The report: complete, closed against its own content, and redacted."""

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Observation
from tfdiag_ipython.failure import Failure, Frame, Raised
from tfdiag_ipython.report import build_report


def made(message="it broke", **keywords):
    frames = (Frame("/home/jane/x.py", "train", 3),)
    failure = Failure(
        "exception",
        (Raised(("torch.OutOfMemoryError", "builtins.RuntimeError"), message, frames=frames),),
        cell="cell 3",
        versions={"torch": "2.13.0"},
    )
    found = Diagnosis("MEM001", "out", "too big", Certainty.LIKELY, evidence=(Observation("free", "1 MiB"),))
    return build_report([found], failure, {"Python": "3.11"}, environment={}, **keywords)


def test_it_has_versions_failure_diagnosis_and_log():
    report = made(log=["rule HUB001 failed"])
    for part in ("| Python | 3.11 |", "| torch | 2.13.0 |", "Failure in cell 3", "torch.OutOfMemoryError", "it broke"):
        assert part in report
    assert "### MEM001 out (likely)" in report and "free: 1 MiB" in report and "rule HUB001 failed" in report
    assert "x.py:3 train" in report and "jane" not in report


def test_a_message_cannot_leave_its_block():
    report = made("```\n# Heading of the attacker\n````")
    block = report.partition("`````text\n")[2].partition("\n`````\n")[0]
    assert "# Heading of the attacker" in block


def test_a_huge_message_is_clipped():
    assert len(made("x" * 1_000_000)) < 10_000


def test_without_a_failure_it_says_so():
    assert "No cell has failed." in build_report([], None, {"Python": "3.11"}, environment={})
