"""What NVIDIA's driver says through its own tool: a process of its own, which can be ended when it hangs, and touches no context.

Source: `nvidia-smi --help-query-gpu` and `--help-query-compute-apps` (columns, `[N/A]` where a value is not known).
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from dataclasses import dataclass

SECONDS = 5.0
DEVICE = ("index", "uuid", "name", "driver_version", "compute_cap", "memory.total", "memory.used")
PROCESS = ("gpu_uuid", "pid", "process_name", "used_memory")


@dataclass(frozen=True)
class Device:
    """One card, as the driver knows it; bytes; ``capability`` is empty where the driver is too old to say."""

    index: int
    identity: str
    name: str
    driver: str
    capability: tuple[int, int] | None
    total: int
    used: int


@dataclass(frozen=True)
class Process:
    """One process with memory on a card; ``size`` is 0 where the driver does not say (in containers, under WSL)."""

    device: int
    number: int
    name: str
    size: int


def installed() -> bool:
    return shutil.which("nvidia-smi") is not None


def devices() -> list[Device]:
    """The cards of this machine; none where there is no driver. Raises ``TimeoutError`` where the driver does not answer."""
    return [device for row in _ask("--query-gpu", DEVICE) if (device := read_device(row))]


def processes() -> list[Process]:
    """The other processes with memory on the cards."""
    cards = {card.identity: card.index for card in devices()}
    found = [read_process(row, cards) for row in _ask("--query-compute-apps", PROCESS)]
    return [one for one in found if one is not None and one.number != os.getpid()]


def read_device(row: list[str]) -> Device | None:
    """One line of the first query; ``None`` for any other line."""
    if len(row) != len(DEVICE) or not row[0].isdigit():
        return None
    major, _, minor = row[4].partition(".")
    capability = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
    return Device(int(row[0]), row[1], row[2], row[3], capability, _mebibytes(row[5]), _mebibytes(row[6]))


def read_process(row: list[str], cards: dict[str, int]) -> Process | None:
    """One line of the second query."""
    if len(row) != len(PROCESS) or not row[1].isdigit() or row[0] not in cards:
        return None
    name = "" if row[2].startswith("[") else os.path.basename(row[2].replace("\\", "/"))
    return Process(cards[row[0]], int(row[1]), name, _mebibytes(row[3]))


def _ask(query: str, columns: tuple[str, ...]) -> list[list[str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"{query}={','.join(columns)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"nvidia-smi did not answer within {SECONDS:.0f} seconds") from None
    except OSError:
        return []
    return list(csv.reader(done.stdout.splitlines(), skipinitialspace=True)) if done.returncode == 0 else []


def _mebibytes(text: str) -> int:
    return int(text) * 2**20 if text.isdigit() else 0
