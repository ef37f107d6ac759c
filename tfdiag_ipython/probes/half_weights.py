"""The float16 weights whose gradients a GradScaler refused, and the model that they belong to."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.trainer import trainer_of

MOST = 5_000


class HalfWeightsProbe(Probe):
    """The optimizer and the parameter in the frame of the GradScaler; dtypes only are read.

    Facts: ``weight`` (the parameter's name in its model, empty where no model of the notebook has it), ``model`` (that model's name), ``half`` (float16
    tensors of the optimizer), ``trained`` (all of them), ``frozen`` (tensors of the model that are not trained).
    """

    name: ClassVar[str] = "half-weights"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch: Any = scene.module("torch")
        frame = next(iter(scene.find_frames("_unscale_grads_", file="grad_scaler.py")), None)
        optimizer, weight = (frame.locals.get(name) for name in ("optimizer", "param")) if frame else (None, None)
        groups = getattr(optimizer, "param_groups", None)
        if torch is None or not isinstance(groups, list) or weight is None:
            return Evidence(missing="no frame of a GradScaler is left in this traceback")
        trained = [one for group in groups for one in group["params"]][:MOST]
        half = sum(one.dtype is torch.float16 for one in trained)
        facts: dict[str, Any] = {"weight": "", "model": "", "half": half, "trained": len(trained), "frozen": 0}
        trainer = trainer_of(scene)
        held = list(scene.namespace.items())
        held += [] if trainer is None else [("trainer.model", vars(trainer).get("model"))]
        for name, model in held:
            scene.deadline.check()
            if issubclass(type(model), torch.nn.Module) and not name.startswith("_"):
                named = list(model.named_parameters())[:MOST]
                path = next((path for path, one in named if one is weight), "")
                if path:
                    frozen = sum(not one.requires_grad for _, one in named)
                    facts.update(weight=path, model=name, frozen=frozen)
                    break
        seen = Observation(
            "float16 weights in training", f"{half:,} of {len(trained):,} tensors", "the optimizer's parameters"
        )
        return Evidence(MappingProxyType(facts), (seen,))
