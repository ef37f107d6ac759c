"""What an encoder-decoder model was called with when its decoder got nothing to read."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.trainer import trainer_of, variable_of

DECODER = ("decoder_input_ids", "decoder_inputs_embeds", "labels")


class DecoderInputsProbe(Probe):
    """The outermost `forward` of an encoder-decoder model in the frames; only which arguments are ``None`` is looked at.

    Facts: ``model`` (its class), ``variable`` (its name in the notebook), ``given`` (arguments that were given), ``trains`` (the class takes `labels`), ``trainer`` (a
    Trainer called it), ``dataset`` (the name of the Trainer's data set).
    """

    name: ClassVar[str] = "decoder-inputs"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        for frame in reversed(scene.find_frames("forward")):
            values = frame.locals
            model: Any = values.get("self")
            if "decoder_input_ids" not in values or not type(model).__module__.startswith("transformers.models."):
                continue
            inputs = ("input_ids", "inputs_embeds", "input_features", "input_values", "pixel_values")
            given = tuple(name for name in (*inputs, *DECODER) if values.get(name) is not None)
            if not given and values.get("encoder_outputs") is not None:
                given = ("encoder_outputs",)  # else `forward` itself has made them
            trainer = trainer_of(scene)
            facts = {
                "model": type(model).__name__,
                "variable": variable_of(scene, model),
                "given": given,
                "trains": "labels" in values,
                "trainer": trainer is not None,
                "dataset": variable_of(scene, vars(trainer).get("train_dataset")) if trainer is not None else "",
            }
            seen = Observation(
                "The model was given", ", ".join(given) or "nothing", f"frame `forward` of {facts['model']}"
            )
            return Evidence(MappingProxyType(facts), (seen,))
        return Evidence(missing="no encoder-decoder model of Transformers is at work in this traceback")
