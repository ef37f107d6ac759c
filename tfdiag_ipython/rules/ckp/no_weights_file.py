from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.asked_part import AskedPartProbe
from tfdiag_ipython.probes.weights_folder import WeightsFolderProbe, weight_files
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import raised_by_hand
from tfdiag_ipython.rules.hub._examples import ONLINE, SERVING
from tfdiag_ipython.rules.tfw._convert import path_told
from tfdiag_ipython.sizes import file_size

SETUP = """
import tempfile
from transformers import BertConfig, BertModel
folder = tempfile.mkdtemp()
BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8).save_pretrained(folder)
"""


class NoWeightsFile(Rule):
    """The folder has no weights under a name that `from_pretrained` looks for.

    *What it means*
    `model.safetensors` and `pytorch_model.bin` (and their index files for shards) are the names that are looked for.

    *Why it happens*
    Only the configuration or tokenizer was saved there; the weights are one folder further down (`checkpoint-500`); they carry
    another name; the folder is an adapter (PEFT), a GGUF or Flax file, or the original TensorFlow 1 checkpoint.

    *How tfdiag confirms it*
    It lists the weight files of the folder that was given.

    *Fixes and their safety*
    None is carried out: which files are meant is yours to say.

    *Example*
    `AutoModel.from_pretrained("./out")`, where the Trainer saved to `./out/checkpoint-500`.

    *References*
    transformers: `modeling_utils.py`, `_get_resolved_checkpoint_files`.
    """

    code = "CKP001"
    name = "no-weights-file"
    raised = ("builtins.OSError",)
    message = re.compile(
        r"Error no file named (?P<wanted>.{1,300}?),? found in directory (?P<folder>\S.{0,600}?)(?: or `from_(?:tf|pt)`|\.?\s{0,20}\Z| but there is)"
        r"|(?<!\S)(?P<repo>\S+) does not appear to have a file named (?P<named>(?:(?:diffusion_)?pytorch_model[\w.-]*\.bin|(?:diffusion_pytorch_)?model[\w.-]*\.safetensors|tf_model\.h5)\b)"
        r".{0,200}?(?:\.$|\.\s|flax_model\.msgpack|and thus|Checkout)",
        re.DOTALL,
    )
    needs = (WeightsFolderProbe, AskedPartProbe)
    CASES = (
        Match(
            text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./out.",
            certainty=Certainty.LIKELY,
            title=r"`\./out` holds no weights that from_pretrained",
        ),
        Match(
            text="OSError: Error no file named ['pytorch_model.bin', 'tf_model.h5', 'model.ckpt.index'] found in directory ./uncased "
            "or `from_tf` set to False",
            title=r"`\./uncased` holds no weights",
        ),
        Match(
            text="OSError: Error no file named ['pytorch_model.bin', 'tf_model.h5'] found in directory /models/exp1 or `from_pt` set to False",
            title="`/models/exp1` holds no weights",
        ),
        Match(
            text="OSError: acme/gguf does not appear to have a file named pytorch_model.bin, model.safetensors, tf_model.h5, "
            "model.ckpt or flax_model.msgpack.",
            title="`acme/gguf` holds no weights",
        ),
        Match(
            text="OSError: Error no file named model.safetensors, or pytorch_model.bin, found in directory ./lora.",
            evidence={
                "weights-folder": {
                    "path": "./lora",
                    "folder": "/data/lora",
                    "files": (
                        {
                            "name": "adapter_model.safetensors",
                            "size": 900,
                            "kind": "safetensors",
                            "framework": "pytorch",
                        },
                    ),
                    "adapter": True,
                    "others": 0,
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"`\./lora` is a PEFT adapter",
        ),
        NoMatch(text="OSError: acme/x does not appear to have a file named preprocessor_config.json.", code="HUB003"),
        Reproduce(
            (
                f"{SERVING}(served / 'model.safetensors').unlink()",  # the Hub's cache lacks them too, and is not to blame
                "model = AutoModel.from_pretrained('acme/tiny-bert')",
            ),
            certainty=Certainty.LIKELY,
            title="`acme/tiny-bert` holds no weights",
            environment=ONLINE,
            isolated=True,
        ),
        *(
            Reproduce(
                (
                    SETUP + f"import pathlib\npathlib.Path(folder, {name!r}).mkdir()",
                    "model = BertModel.from_pretrained(folder)",
                ),
                certainty=Certainty.CONFIRMED,
                title=title,
            )
            for name, title in (
                ("global_step10", "holds a DeepSpeed checkpoint: its zero_to_fp32.py"),
                ("pytorch_model_fsdp_0", "holds an FSDP checkpoint in shards"),
            )
        ),
        Reproduce(
            (SETUP, "model = BertModel.from_pretrained(folder)"),
            certainty=Certainty.CONFIRMED,
            title="holds no weights at all",
        ),
        Reproduce(
            (
                SETUP + "BertModel(BertConfig.from_pretrained(folder)).save_pretrained(folder + '/checkpoint-500')",
                "model = BertModel.from_pretrained(folder)",
            ),
            certainty=Certainty.CONFIRMED,
            title="weights are one folder further down, in checkpoint-500",
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if raised_by_hand(hit.raised):
            return None  # words of the person's own
        if re.search("file for (?:TensorFlow|PyTorch) weights", hit.raised.message):
            return None
        if evidence[AskedPartProbe.name].get("absent"):
            return None  # a variant or subfolder that is not there: CFG006
        seen = evidence[WeightsFolderProbe.name]
        where = path_told(seen["path"] if seen else hit["folder"] or hit["repo"])
        wanted = "model.safetensors or pytorch_model.bin"
        if not seen:
            return self.found(
                f"{where} holds no weights that from_pretrained of this version looks for ({wanted})",
                Certainty.LIKELY,
                what="None of the file names that the message lists is in that folder or repository.",
                why="Look at what is there: weights in a sub-folder (checkpoint-…), an adapter, a GGUF file, TensorFlow's files.",
            )
        files = weight_files(seen)
        tensorflow = any(file.framework == "tensorflow" or file.name == "tf_model.h5" for file in files)
        if tensorflow and not weight_files(seen, "pytorch"):
            return None
        title = f"{where} holds no weights at all: {wanted} is looked for"
        why = "The weights were never saved or downloaded there, or the path is not the one meant."
        if seen.get("adapter"):
            title = f"{where} is a PEFT adapter, not a whole model: load the base model, then the adapter"
            why = "adapter_config.json names the base model; AutoPeftModel… of the peft package loads both."
        elif not files and seen.get("saver") in _SAVERS:
            title, why = _SAVERS[str(seen["saver"])]
            title = f"{where} {title}"
        elif seen.get("below"):
            title = f"{where} holds no weights itself: weights are one folder further down, in {seen['below'][0]}"
            why = f"Give that folder instead. Sub-folders with weights: {', '.join(seen['below'])}."
        elif files:
            first = files[0]
            title = f"{where} has no {wanted}, but {first.name} ({first.kind}, {file_size(first.size)})"
            why = "from_pretrained finds weights by their names only; a file in another format must be converted."
        return self.found(
            title,
            Certainty.CONFIRMED,
            what="A PyTorch class looks for model.safetensors, pytorch_model.bin or the index file of their shards.",
            why=why,
            evidence=seen.seen,
        )


_SAVERS = {
    "DeepSpeed": (
        "holds a DeepSpeed checkpoint: its zero_to_fp32.py makes weights of it",
        "Run `python zero_to_fp32.py . .` in that folder; `stage3_gather_16bit_weights_on_model_save` saves whole weights at once.",
    ),
    "FSDP": (
        "holds an FSDP checkpoint in shards: `accelerate merge-weights` makes weights of it",
        "`accelerate merge-weights FOLDER/pytorch_model_fsdp_0 OUT`; with the state dict type FULL_STATE_DICT whole weights are saved at once.",
    ),
    "MLX": (
        "holds MLX's weights (weights.npz), which PyTorch does not read",
        "Load the original of this model, or export it with mlx_lm's own tools.",
    ),
}
"""Whose format it is → what to say, and how weights come of it."""
