from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP
from tfdiag_ipython.rules.tfw.tensorflow_not_installed import LOADERS


class TensorFlowConversionBroken(Rule):
    """`from_tf=True` ends inside the library's own conversion code.

    *What it means*
    To read TensorFlow weights, transformers 4 imports its TensorFlow twin of the model, builds it and copies the tensors. A name that is
    missing *there* is no mistake of your program.

    *Why it happens*
    TensorFlow is of a version that this transformers does not load (its TF names are then absent), or the helper of that release is itself
    broken.

    *How tfdiag confirms it*
    The failing frames are the library's TensorFlow loader, or the missing name is a TF class inside the library and the call
    says `from_tf=True`.

    *Fixes and their safety*
    None is carried out: load a folder that holds `tf_model.h5` without `from_tf=True`; tfdiag then offers to convert it.

    *Example*
    `ImportError: cannot import name 'TFGenerationMixin' from 'transformers.generation'` under `from_pretrained(…, from_tf=True)`

    *References*
    transformers 4: `modeling_tf_pytorch_utils.py`.
    """

    code = "TFW009"
    name = "tensorflow-conversion-broken"
    raised = ("builtins.ImportError", "builtins.NameError", "builtins.AttributeError", "builtins.TypeError")
    specific = True
    message = re.compile(
        r"cannot import name '?(?P<symbol>TF\w+)'? from '(?P<module>transformers(?:\.\w+)*)'(?: \((?P<file>[^)\n]{0,600})\))?"
        r"|name '(?P<undefined>\w+)' is not defined|(?<!\S)(?P<owner>\S+) (?:object )?has no attribute '?(?P<attribute>\w+)"
        r"|unexpected keyword argument '(?P<argument>\w+)'"
    )
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "t.py", line 5, in <module>\n'
            '    model = AutoModel.from_pretrained("model-name", from_tf=True)\n'
            "ImportError: cannot import name 'TFGenerationMixin' from 'transformers.generation' (/x/transformers/generation/__init__.py)",
            certainty=Certainty.LIKELY,
            title="TFGenerationMixin",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/x/transformers/modeling_tf_pytorch_utils.py", line 201, in '
            "load_tf2_checkpoint_in_pytorch_model\n    tf_inputs = tf.constant(DUMMY_INPUTS)\n"
            "NameError: name 'DUMMY_INPUTS' is not defined",
            title="DUMMY_INPUTS",
        ),
        NoMatch(
            text='  File "/x/transformers/convert_bert_original_tf_checkpoint_to_pytorch.py", line 36, in convert_tf_checkpoint_to_pytorch\n'
            "    load_tf_weights_in_bert(model, config, path)\n"
            '  File "/x/transformers/modeling_bert.py", line 99, in load_tf_weights_in_bert\n    pointer = getattr(pointer, "bias")\n'
            "AttributeError: 'BertForPreTraining' object has no attribute 'bias'",
            code="TFW008",
        ),
        Reproduce(
            (
                TENSORFLOW_SETUP + "from transformers import AutoModelForCausalLM, LlamaConfig\n"
                "LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=9).save_pretrained('llama')\n"
                "import pathlib\npathlib.Path('llama/tf_model.h5').write_bytes(b'')",
                "model = AutoModelForCausalLM.from_pretrained('llama', from_tf=True)",
            ),
            title="from_tf=True cannot work here: transformers has no TensorFlow class `TFLlamaForCausalLM`",
            certainty=Certainty.CONFIRMED,
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(text="NameError: name 'theta_hats' is not defined"),
        NoMatch(text="AttributeError: module 'tensorflow' has no attribute 'placeholder'"),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        frames = hit.raised.frames
        functions = [frame.function for frame in frames]
        # load_tf_weights_in_… reads TensorFlow 1 checkpoints: another fault, another rule
        original = any("load_tf_weights" in function for function in functions)
        inside = any(map(LOADERS.search, functions)) and not original
        asked = bool(hit["symbol"]) and "from_tf=True" in failure.source + failure.text
        if not inside and not asked:
            return None
        missing = hit["symbol"] or hit["undefined"] or hit["attribute"] or hit["argument"]
        twin = inside and re.fullmatch(r"TF[A-Z]\w+", hit["attribute"]) is not None
        if twin:
            return self.found(
                f"from_tf=True cannot work here: transformers has no TensorFlow class `{missing}`",
                Certainty.CONFIRMED if frames and not failure.stored else Certainty.LIKELY,
                what="transformers 4 reads TensorFlow weights by building the model's TensorFlow twin, and there is none for this model.",
                why="Weights of this architecture were never written by TensorFlow: leave from_tf=True out and look for PyTorch's files.",
            )
        return self.found(
            f"from_tf=True failed inside transformers' own conversion code: `{missing}` is missing there, not in your program",
            Certainty.LIKELY,
            what="transformers 4 loads TensorFlow weights through its TensorFlow classes, which could not be imported or used.",
            why="This TensorFlow does not fit this transformers (or the helper of that release is broken). Convert tf_model.h5 to "
            "safetensors instead: load the folder without from_tf=True and press tfdiag's fix.",
        )
