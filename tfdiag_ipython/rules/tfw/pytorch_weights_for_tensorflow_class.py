from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._convert import path_told
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP


class PyTorchWeightsForTensorFlowClass(Rule):
    """A TensorFlow class (`TFAutoModel…`) is to load a checkpoint that has PyTorch weights only.

    *What it means*
    A `TF…` class looks for `tf_model.h5` first. The repository or folder has PyTorch's file alone, or nothing under that name.

    *Why it happens*
    Most checkpoints are saved from PyTorch. Older releases say that the model "can't be loaded" and suspect its name.

    *How tfdiag confirms it*
    From the text: only TensorFlow classes list `tf_model.h5` first, and newer releases say outright which file is there.

    *Fixes and their safety*
    None is carried out (transformers 4 with TensorFlow only): `from_pt=True` converts on loading; `save_pretrained` keeps the result.

    *Example*
    `TFBertModel.from_pretrained("acme/bert")`: "… but there is a file for PyTorch weights. Use `from_pt=True`"

    *References*
    transformers 4: `modeling_tf_utils.py`, `TFPreTrainedModel.from_pretrained`.
    """

    code = "TFW010"
    name = "pytorch-weights-for-tensorflow-class"
    raised = ("builtins.OSError", "builtins.AttributeError", "builtins.TypeError")
    message = re.compile(
        r"Can't load (?P<load>weights|the model) for '(?P<name>[^']+)'.{0,700}?containing a file named (?:one of )?(?P<first>tf_model\.h5)\b"
        r"|(?<!\S)(?P<where>\S+)(?: does not appear to have a file named .{1,80}?)? but there is a file for (?P<found>PyTorch) weights"
        r"|(?P<unsupported>Loading a TF model from a PyTorch checkpoint is not supported)"
        r"|(?P<safe>'(?:builtins\.)?safe_open' object is not iterable)"
        r"|(?<![\w.])(?P<lacking>[\w.]+\.\w+) not found in PyTorch model",
        re.DOTALL,
    )
    CASES = (
        Match(
            text="OSError: Can't load weights for 'acme/fin'. Make sure that:\n\n- 'acme/fin' is a correct model identifier listed on "
            "'https://huggingface.co/models'\n\n- or 'acme/fin' is the correct path to a directory containing a file named one of "
            "tf_model.h5, pytorch_model.bin.",
            certainty=Certainty.POSSIBLE,
            title="`acme/fin`",
        ),
        Match(
            text="OSError: Error no file named tf_model.h5 found in directory ./m but there is a file for PyTorch weights. Use "
            "`from_pt=True` to load this model from those weights.",
            certainty=Certainty.LIKELY,
            title=r"`\./m` has PyTorch weights",
        ),
        Match(
            text="AttributeError: bert.pooler.dense.weight not found in PyTorch model",
            title="no `bert.pooler.dense.weight`",
        ),
        Match(
            text="OSError: Loading a TF model from a PyTorch checkpoint is not supported when using a model identifier name.",
            title="download",
        ),
        Match(
            # transformers 4.57.6 with safetensors 0.8
            text='  File "/x/site-packages/transformers/modeling_tf_utils.py", line 2964, in from_pretrained\n    return load_pytorch_state'
            '_dict_in_tf2_model(\n  File "/x/site-packages/transformers/modeling_tf_pytorch_utils.py", line 333, in '
            "load_pytorch_state_dict_in_tf2_model\n    for key in pt_state_dict:\nTypeError: 'builtins.safe_open' object is not iterable",
            certainty=Certainty.LIKELY,
            title="from_pt=True",
        ),
        Match(
            text="OSError: Error no file named tf_model.h5 or model.safetensors found in directory ptb but there is a file for PyTorch weights. "
            "Use `from_pt=True` to load this model from those weights.",
            title="`ptb` has PyTorch weights",
        ),
        Reproduce(
            (
                TENSORFLOW_SETUP + "from transformers import BertForSequenceClassification\n"
                "BertForSequenceClassification(config).save_pretrained('pt', safe_serialization=False)",
                'model = TFBertForSequenceClassification.from_pretrained("pt")',
            ),
            certainty=Certainty.LIKELY,
            title="`pt` has PyTorch weights.*from_pt=True",
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(text="TypeError: 'builtins.safe_open' object is not iterable"),
        NoMatch(
            text="OSError: Can't load weights for 'acme/fin'. Make sure that: 'acme/fin' is the correct path to a directory containing a "
            "file named one of pytorch_model.bin, tf_model.h5, model.ckpt.",
            code="HUB003",
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if hit["safe"]:
            if not any("modeling_tf_" in frame.file for frame in hit.raised.frames):
                return None
            return self.found(
                "A TensorFlow class (TF…) is loading PyTorch's model.safetensors, which fails with this safetensors release: from_pt=True",
                Certainty.LIKELY,
                what="transformers 4 walks through the opened file as if it were a dict; newer releases of safetensors do not allow that.",
                why="Add from_pt=True: then the file is read by PyTorch and converted (PyTorch must be installed).",
            )
        if hit["unsupported"] or hit["lacking"]:
            title = "PyTorch weights cannot be loaded into a TensorFlow class by a repository's name in this release: download them first"
            if hit["lacking"]:
                title = f"The PyTorch weights have no `{hit['lacking']}`, which the TensorFlow class (TF…) needs"
            return self.found(
                title,
                Certainty.LIKELY,
                what="transformers converts PyTorch weights for a TF… class one by one, by their names.",
                why="Save the folder with the PyTorch class that has this head, then load it with from_pt=True; or use the PyTorch class.",
            )
        where = path_told(hit["name"] or hit["where"])
        title = f"{where} has PyTorch weights, and a TensorFlow class (TF…) is to load them: from_pt=True"
        if not hit["found"]:
            title = f"A TensorFlow class (TF…) found no tf_model.h5 in {where}: its weights are probably PyTorch's (from_pt=True)"
        return self.found(
            title,
            Certainty.LIKELY if hit["found"] else Certainty.POSSIBLE,
            what="TF… classes look for tf_model.h5; PyTorch weights are converted on loading only when from_pt=True is given.",
            why="Add from_pt=True (PyTorch must be installed), or use the class without TF. Otherwise check the name and the access to it.",
        )
