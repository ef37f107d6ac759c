from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.meta_model import MetaModelProbe
from tfdiag_ipython.probes.weights_folder import weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tfw._convert import CONVERT, offer_conversion, path_told, plan_conversion
from tfdiag_ipython.rules.tfw.tensorflow_weights_only import SEEN, SETUP


class WeightsLeftOnMeta(Rule):
    """`from_tf=True` returned a model without weights: all its parameters are on the `meta` device.

    *What it means*
    A tensor on `meta` has a shape and no numbers. The forward pass may even seem to work; whatever needs a number fails.

    *Why it happens*
    transformers 4.52.4–4.57.6 build the model on `meta` first and then copy TensorFlow's weights into it, which does nothing there.

    *How tfdiag confirms it*
    It finds the model in your variables, sees that every parameter is on `meta`, and that the folder it came from holds TensorFlow weights
    only or that a cell says `from_tf=True`. A model on `meta` for another reason is left to other rules.

    *Fixes and their safety*
    `convert-to-safetensors` (safe: the weights that were meant) converts `tf_model.h5` without TensorFlow, takes `from_tf=True` out of the
    call, and runs that cell and the failing one again.

    *Example*
    `model = BertModel.from_pretrained("./bert-tf", from_tf=True)`, then `model.to("cuda")`: "Cannot copy out of meta tensor; no data!"

    *References*
    transformers 4.57.6: `modeling_utils.py`, `_load_from_tf`; torch: meta device.
    """

    code = "TFW003"
    name = "weights-left-on-meta"
    raised = ("builtins.RuntimeError", "builtins.NotImplementedError")
    message = re.compile(
        r"(?P<copy>Cannot copy out of meta tensor)|(?P<item>cannot be called on meta tensors?)|(?P<device>device meta\b|device=?'?meta\b)"
    )
    needs = (MetaModelProbe,)
    fixes = (Offer(CONVERT, Applicability.SAFE),)
    links = (Link("Meta device", "https://docs.pytorch.org/docs/stable/meta.html"),)
    CASES = (
        Match(
            text="NotImplementedError: Cannot copy out of meta tensor; no data! Please use torch.nn.Module.to_empty() instead of "
            "torch.nn.Module.to() when moving module from meta to a different device.",
            evidence={
                "meta-model": {
                    "variable": "model",
                    "model": "BertModel",
                    "parameters": 23,
                    "folder": "./bert-tf",
                    "from_tf": True,
                    "weights": SEEN,
                }
            },
            certainty=Certainty.CONFIRMED,
            title="`model` has no weights: from_tf=True left all 23 parameters on meta",
            fixes=(CONVERT,),
        ),
        Match(
            text="  File 't.py', line 4, in <module>\n    model = BertModel.from_pretrained('./bert-tf', from_tf=True).to('cpu')\n"
            "NotImplementedError: Cannot copy out of meta tensor; no data!",
            certainty=Certainty.LIKELY,
        ),
        NoMatch(
            text="RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
            code="DEV001",
        ),
        Reproduce(
            (
                'import os\nos.environ["TF_USE_LEGACY_KERAS"] = "1"\n' + SETUP,
                "model = AutoModelForSequenceClassification.from_pretrained(folder, from_tf=True)",
                'model.to("cpu")',
            ),
            certainty=Certainty.CONFIRMED,
            title="from_tf=True left all",
            fixes=(Try(CONVERT),),
            needs=("torch", "transformers>=4.52.4,<5", "tensorflow", "tf-keras", "h5py"),
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[MetaModelProbe.name]
        what = "A tensor on meta has a shape and no numbers: the TensorFlow weights were never copied into the model."
        why = (
            "transformers 4.52.4–4.57.6 copy TensorFlow weights into a model that is still on meta, which does nothing."
        )
        if not seen:
            if "from_tf=True" not in failure.source + failure.text:
                return None
            title = "from_tf=True returned a model without weights: its parameters are on meta"
            return self.found(title, Certainty.LIKELY, what=what, why=why)
        weights = Evidence(seen["weights"])
        only_tensorflow = bool(weight_files(weights, "tensorflow")) and not weight_files(weights, "pytorch")
        if not seen["from_tf"] and not only_tensorflow:
            return None
        source = f"; {path_told(seen['folder'])} holds TensorFlow weights" if only_tensorflow else ""
        return self.found(
            f"`{seen['variable']}` has no weights: from_tf=True left all {seen['parameters']} parameters on meta{source}",
            Certainty.CONFIRMED,
            what=what,
            why=why,
            evidence=seen.seen,
            fixes=offer_conversion(self, weights) if only_tensorflow else (),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_conversion(fix, scene)
