"""A whole program written for transformers 4: it runs there, fails on 5, and runs on 5 when it has been migrated."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfdiag_ipython.cli import main
from tfdiag_ipython.rules.imp._symbols import older

pytestmark = [pytest.mark.hf, pytest.mark.slow]
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
OLD = Path(__file__).parents[1] / "data" / "written_for_4.py"


def run(file: Path) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if "CACHE" not in key}
    environment = {**plain, "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, str(file)], capture_output=True, text=True, env=environment, check=False)


def test_it_runs_on_5_when_it_has_been_migrated(tmp_path, capsys):
    new = tmp_path / "new.py"
    shutil.copy(OLD, new)
    before = run(OLD)
    if older(transformers.__version__, "5"):
        assert before.stdout.splitlines()[-1] == "torch.Size([1, 6]) done", before.stderr[-2000:]
        return
    assert before.returncode != 0 and "use_auth_token" in before.stderr
    assert main(["migrate", str(new), "--write"]) == 0
    after = run(new)
    assert after.stdout.splitlines()[-1] == "torch.Size([1, 6]) done", after.stderr[-2000:]
    assert "token=False,  # public" in new.read_text()
    capsys.readouterr()
    assert main(["migrate", str(new)]) == 1
