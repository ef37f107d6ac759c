"""A library that is imported from a checkout of its own is no file in its place."""

import subprocess
import sys

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.shadowing import ShadowingProbe

pytestmark = pytest.mark.hf
transformers = pytest.importorskip("transformers")

CHILD = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import tfdiag_ipython, transformers
assert transformers.__file__.startswith(sys.argv[1]), transformers.__file__
for source in ("from transformers import BertModl", "transformers.BertModl", "import transformers.nothing"):
    try:
        exec(source)
    except Exception as error:
        print(*[found.code for found in tfdiag_ipython.diagnose(error, source=source, namespace={})])
"""


def test_an_editable_install_is_the_library(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "transformers").symlink_to(transformers.__path__[0])
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "src")], capture_output=True, text=True, check=False
    )
    codes = ran.stdout.splitlines()
    assert [line.split()[:1] for line in codes[:2]] == [["IMP001"], ["IMP001"]], ran.stdout + ran.stderr
    assert "IMP009" not in ran.stdout


def test_a_file_that_nothing_imports_is_in_nobodys_place(tmp_path, monkeypatch):
    (tmp_path / "evaluate.py").write_text("print('mine')")
    monkeypatch.chdir(tmp_path)
    half = "ImportError: cannot import name 'pipeline' from partially initialized module 'transformers' (most likely due to a circular import)"
    looked = ShadowingProbe().look(Failure.from_text(half), Scene({}, live=True))
    assert dict(looked["files"]) == {}
