"""The harness catches a plan that promises an undo and does not bring back what there was."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Status, Verification
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Preview, Progress
from tfdiag_ipython.probe import Cell, Evidence, Scene
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rule import Hit, Offer, Reproduce, Rule, Try
from tfdiag_ipython.testing import check_case


class Mend(Plan):
    """``execute`` does something to the program, ``undo`` says that it took it back."""

    kind = ""

    def preview(self) -> Preview:
        return Preview("text", "It changes something.")

    def execute(self, progress: Progress) -> str:
        names = self.host.namespace
        names["broken"] = False
        if self.kind == "inside":
            names["settings"]["size"] = 2
        elif self.kind == "object":
            names["thing"] = object()
        elif self.kind == "variable":
            os.environ["TFDIAG_TEST"] = "1"
        elif self.kind == "file":
            Path(names["folder"], "config.json").write_text("{1}")
        elif self.kind == "other cell":
            self.host.run(Cell(1, "seen = 1"))
            del names["seen"]
        return "Did it."

    def verify(self, progress: Progress) -> Verification:
        return Verification(Status.VERIFIED, "It is whole.")

    def undo(self) -> str:
        if self.kind != "nothing":
            self.host.namespace["broken"] = True
        return "Took it back."


class Broken(Rule):
    code = "TST900"
    name = "broken"
    raised = ("builtins.RuntimeError",)
    message = re.compile("it is broken")
    fixes = (Offer("mend", Applicability.SAFE),)

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis:
        return self.found("It is broken", Certainty.CONFIRMED, fixes=(self.offer("mend", "Mend"),))

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        assert scene.host is not None
        return Mend(scene.host)


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("", ""),
        ("inside", "settings"),
        ("object", "thing"),
        ("variable", "TFDIAG_TEST"),
        ("file", "config.json"),
        ("nothing", "broken"),
        ("other cell", "other cells ran"),
    ],
)
def test_what_an_undo_leaves_is_found(kind, left, monkeypatch, tmp_path):
    monkeypatch.setattr(Mend, "kind", kind)
    monkeypatch.setenv("TFDIAG_TEST", "0")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{0}")
    start = f"broken, settings, thing, folder = True, {{'size': 1}}, object(), {str(tmp_path / 'model')!r}"
    case = Reproduce((start, "if broken:\n    raise RuntimeError('it is broken')"), fixes=(Try("mend"),), needs=())
    rule = Broken()
    monkeypatch.setattr(Broken, "CASES", (case,))
    registry = Registry()
    registry.add(rule)
    if not left:
        check_case(registry, rule, 1)
        return
    with pytest.raises(AssertionError, match=left):
        check_case(registry, rule, 1)
