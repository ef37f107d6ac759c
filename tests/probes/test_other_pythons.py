"""Whose pip the command `pip` is: only what its own script says counts."""

import os
import sys

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.other_pythons import OtherPythonsProbe

MISSING = Failure.from_text("ModuleNotFoundError: No module named 'einops'")


def looked(monkeypatch, folder, script: str) -> dict:
    pip = folder / "pip"
    pip.write_text(script)
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("tfdiag_ipython.probes.other_pythons.COMMANDS", ("pip",))
    return dict(OtherPythonsProbe().look(MISSING, Scene({}, live=True)).facts)


@pytest.mark.parametrize(
    "first", ["#!/usr/bin/env bash", "#!/bin/sh", "#!/bin/bash\nexec python -m pip", "#!/no/such/python"]
)
def test_a_shim_says_nothing(tmp_path, monkeypatch, first):
    assert looked(monkeypatch, tmp_path, f'{first}\nexec pyenv exec "$program" "$@"\n')["pip"] == ""


@pytest.mark.parametrize("form", ["#!{python}\n", "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"])
def test_another_pythons_pip_is_told(tmp_path, monkeypatch, form):
    home = tmp_path / "other one" / "bin"
    home.mkdir(parents=True)
    other = (home if " " in form else tmp_path) / "python3.11"
    other.symlink_to(sys.executable)
    assert looked(monkeypatch, tmp_path, form.format(python=other))["pip"] == str(other)
