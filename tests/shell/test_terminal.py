"""IPython in a real terminal: what stands there at two widths, in colour, and without colour where it is piped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.hf,
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]
ROOT = Path(__file__).resolve().parents[2]
IPYTHON = [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit"]
FAILS = "from transformers import AutoModelForSequenceClasification"
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture
def surroundings(tmp_path):
    settings = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "TFDIAG_BUDGET": "5", "TERM": "screen-256color"}
    return {**{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX")}, **settings}


class Terminal:
    """One tmux server of the test's own, with IPython in it."""

    def __init__(self, folder: Path, environment: dict[str, str], width: int) -> None:
        self._command = ["tmux", "-S", str(folder / "tmux"), "-f", os.devnull]
        self._environment = environment
        self._tmux("new-session", "-d", "-x", str(width), "-y", "120", *IPYTHON)

    def _tmux(self, *words: str) -> str:
        command = [*self._command, *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def screen(self) -> str:
        """What stands there, with its colours."""
        return self._tmux("capture-pane", "-p", "-e")

    def wait_for(self, told: str, seconds: float = 90) -> str:
        end = time.monotonic() + seconds
        while told not in COLOUR.sub("", self.screen()):
            assert time.monotonic() < end, self.screen()
            time.sleep(0.3)
        return self.screen()

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture(params=[80, 160])
def terminal(request, tmp_path, surroundings):
    terminal = Terminal(tmp_path, surroundings, request.param)
    terminal.wait_for("In [1]")
    terminal.type("%load_ext tfdiag")
    terminal.wait_for("In [2]")
    terminal.type(FAILS)
    terminal.shown = terminal.wait_for("In [3]")
    terminal.width = request.param
    yield terminal
    terminal.close()


def test_a_terminal_shows_the_diagnosis_in_its_width_and_in_colour(terminal):
    shown = terminal.shown.split("ImportError")[-1].split("In [3]")[0]
    rows = [row.rstrip() for row in COLOUR.sub("", shown).splitlines()]
    label = next(number for number, row in enumerate(rows) if "IMP00" in row)
    first = max(number for number, row in enumerate(rows[:label]) if not row) + 1
    assert "AutoModelForSequenceClassification" in " ".join(rows[first:label])
    assert re.match(r"[●◐○] (confirmed|likely|possible) · IMP00", rows[label])
    assert "Evidence" in rows and "Fixes" in rows
    assert max(map(len, rows[first:])) <= min(terminal.width, 100)
    assert re.match(r"(\x1b\[[\d;]*m)*\x1b\[(0;)?1m", shown.splitlines()[first])  # the answer stands out


def test_what_is_piped_has_no_colour(surroundings):
    typed = f"%load_ext tfdiag\n{FAILS}\n"
    command = [*IPYTHON, "--simple-prompt"]
    done = subprocess.run(
        command, input=typed, env=surroundings, capture_output=True, text=True, timeout=120, check=True
    )
    told = done.stdout[done.stdout.rindex("· IMP00") :]
    assert "Evidence" in told and "\x1b" not in told
