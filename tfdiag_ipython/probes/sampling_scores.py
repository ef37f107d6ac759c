"""The scores from which `generate` was to draw a token: whether the model's own scores are already not a number.

Source: ``transformers/generation/utils.py``, ``_sample`` (locals ``next_token_logits``, ``probs``) of 4.57 and 5.23. Tensors on another
device than the CPU are not read.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene

MOST_ELEMENTS = 5_000_000
"""Scores larger than this are not read: a quick look must stay quick."""


class SamplingScoresProbe(Probe):
    """What is wrong with the scores in the failing frame.

    Facts: ``logits`` and ``probabilities`` (each ``{"nan", "inf", "total"}``, absent when not readable), ``dtype`` (the model's),
    ``temperature``. Minus infinity in the logits is how processors forbid a token, and is not counted.
    """

    name: ClassVar[str] = "sampling-scores"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        frames = scene.find_frames("_sample", "sample", file="transformers/generation/utils.py")
        if torch is None or not frames:
            return Evidence(missing="no frame of `generate` is left in this traceback")
        values, where = frames[0].locals, f"frame `{frames[0].function}`, transformers/generation/utils.py"
        config = getattr(values.get("generation_config"), "temperature", None)
        facts: dict[str, Any] = {
            "dtype": str(getattr(values.get("self"), "dtype", "")).removeprefix("torch."),
            "temperature": config if isinstance(config, (int, float)) else None,
        }
        seen = [Observation("model.dtype", facts["dtype"], where)]
        for name, local in (("logits", "next_token_logits"), ("probabilities", "probs")):
            scene.deadline.check()
            tensor: Any = values.get(local)
            if type(tensor) is not torch.Tensor or tensor.device.type != "cpu" or tensor.numel() > MOST_ELEMENTS:
                continue
            with torch.no_grad():
                nan, inf = int(tensor.isnan().sum()), int((tensor == float("inf")).sum())
            facts[name] = {"nan": nan, "inf": inf, "total": int(tensor.numel())}
            seen.append(Observation(f"`{local}`", f"{nan} not a number, {inf} infinite, of {tensor.numel()}", where))
        return Evidence(MappingProxyType(facts), tuple(seen))
