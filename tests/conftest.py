"""What a test needs and this machine lacks is said as the reason of a skip; nothing here reaches the network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile

import pytest

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
HOME = tempfile.mkdtemp(prefix="tfdiag-tests-")
os.environ["HF_HOME"] = os.path.join(HOME, "huggingface")
os.environ["IPYTHONDIR"] = os.path.join(HOME, "ipython")  # the person's own history and startup files stay out of it


def _lacks(marker: str) -> str:
    """Why tests with this marker cannot run here; empty when they can."""
    if marker == "hf" and not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")):
        return "torch and transformers are not installed"
    if marker == "kernel" and not importlib.util.find_spec("ipykernel"):
        return "ipykernel is not installed"
    if marker == "browser":
        if not importlib.util.find_spec("playwright"):
            return "playwright is not installed"
        if not shutil.which("chromium"):
            return "Chromium is not installed"
    if marker == "gpu":
        if not importlib.util.find_spec("torch"):
            return "torch is not installed"
        import torch

        if not torch.cuda.is_available():
            return "there is no CUDA device"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        reason = _lacks(marker.name)
        if reason and marker.name == "browser" and os.environ.get("TFDIAG_REQUIRE_BROWSER"):
            pytest.fail(reason)
        if reason:
            pytest.skip(reason)


def pytest_sessionfinish() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
