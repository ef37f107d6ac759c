from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.weights_folder import WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.tfw._convert import CONVERT, files_told, offer_conversion, path_told, plan_conversion
from tfdiag_ipython.rules.tfw.tensorflow_weights_only import SEEN, SETUP

LOADERS = re.compile(
    r"load_tf\d?_\w{0,60}_in_pytorch_model|_load_from_tf|load_tf_weights|convert_\w{0,60}?tf\w{0,60}?_to_pytorch"
)


class TensorFlowNotInstalled(Rule):
    """`from_tf=True` (or a folder without PyTorch weights) leads into TensorFlow code, and TensorFlow is not installed.

    *What it means*
    transformers 4 reads TensorFlow weights through TensorFlow itself, which this environment does not have.

    *Why it happens*
    `from_tf=True` was given, or an old release fell back to its TensorFlow branch because the folder lacks the PyTorch file that it
    looked for (the path is wrong, or the download incomplete).

    *How tfdiag confirms it*
    The failing frames are the library's TensorFlow loader, and the folder that was given holds TensorFlow weights only.

    *Fixes and their safety*
    `convert-to-safetensors` (safe: the same weights) converts `tf_model.h5` without TensorFlow, takes `from_tf=True` out of the call
    and loads the result. Installing TensorFlow does not help with 4.52.4–4.57.6: they return a model without weights.

    *Example*
    `AutoModel.from_pretrained("./bert-tf", from_tf=True)` where TensorFlow is not installed.

    *References*
    transformers 4.57.6: `modeling_tf_pytorch_utils.py`, `load_tf2_checkpoint_in_pytorch_model`.
    """

    code = "TFW002"
    name = "tensorflow-not-installed"
    raised = ("builtins.ImportError",)
    message = re.compile(
        r"(?P<both>Loading a (?:TensorFlow|TF\S*) model in PyTorch,? requires (?:both )?(?P<needed>PyTorch and TensorFlow|TensorFlow))"
        r"|No module named '?(?P<module>tensorflow)\b"
    )
    needs = (WeightsFolderProbe,)
    fixes = (Offer(CONVERT, Applicability.SAFE),)
    CASES = (
        Match(
            text="ImportError: Loading a TensorFlow model in PyTorch requires both PyTorch and TensorFlow to be installed. Please see "
            "https://pytorch.org/ and https://www.tensorflow.org/install/ for installation instructions.",
            certainty=Certainty.LIKELY,
            title="TensorFlow is not installed",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n'
            '    m = BertModel.from_pretrained("./b", from_tf=True)\n'
            '  File "/x/site-packages/transformers/modeling_tf_pytorch_utils.py", line 500, in '
            "load_tf2_checkpoint_in_pytorch_model\n    import tensorflow as tf\n"
            "ModuleNotFoundError: No module named 'tensorflow'",
            evidence={"weights-folder": SEEN},
            certainty=Certainty.CONFIRMED,
            title=r"`\./bert-tf` .*tf_model.h5, 440 MB.*TensorFlow.* not installed",
            fixes=(CONVERT,),
        ),
        NoMatch(text="AttributeError: module 'tensorflow' has no attribute 'placeholder'"),
        Reproduce(
            (
                SETUP,
                "model = AutoModelForSequenceClassification.from_pretrained(\n    folder, from_tf=True,  # saved by Keras\n)",
            ),
            title=r"tf_model.h5.*TensorFlow.* not installed",
            certainty=Certainty.CONFIRMED,
            fixes=(Try(CONVERT),),
            needs=("torch", "transformers<5", "h5py", "without tensorflow"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        in_loader = any(LOADERS.search(frame.function) for raised in failure.chain for frame in raised.frames)
        if hit["module"] and not in_loader:
            return None
        seen = evidence[WeightsFolderProbe.name]
        files = weight_files(seen, "tensorflow") if seen else []
        alone = bool(files) and not weight_files(seen, "pytorch")
        title = (
            "Loading TensorFlow weights into PyTorch was asked for (or fallen back to), and TensorFlow is not installed"
        )
        why = "Either from_tf=True was given, or the folder lacks the PyTorch weights that from_pretrained looks for first."
        if alone:
            title = f"{path_told(seen['path'])} has TensorFlow weights ({files_told(files)}), and TensorFlow is not installed"
        elif seen and weight_files(seen, "pytorch"):
            best = weight_files(seen, "pytorch")[0].name
            title = f"{path_told(seen['path'])} has PyTorch weights ({best}): from_tf=True needs TensorFlow for nothing"
            why = "Take from_tf=True out of the call."
        return self.found(
            title,
            Certainty.CONFIRMED if seen and (in_loader or files) else Certainty.LIKELY,
            what="transformers 4 reads TensorFlow weights through TensorFlow only; transformers 5 does not read them at all.",
            why=why,
            evidence=seen.seen,
            fixes=offer_conversion(self, seen) if alone else (),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_conversion(fix, scene)
