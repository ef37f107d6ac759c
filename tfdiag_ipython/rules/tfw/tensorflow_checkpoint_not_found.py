from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules.tfw._convert import path_told
from tfdiag_ipython.rules.tfw._tensorflow_example import TENSORFLOW, TENSORFLOW_SETUP

_LANGUAGE_MODEL = re.compile(
    r"(?i)(?<![a-z])(?:al|ro|distil|mo?bile|tiny|bio|sci|de)?bert|(?:un)?cased_l-\d+|electra|xlnet|gpt-?2|transformers|from_tf|huggingface"
)


class TensorFlowCheckpointNotFound(Rule):
    """A TensorFlow 1 checkpoint of a language model is not at the prefix that was given.

    *What it means*
    Such a checkpoint is three files with one prefix (`bert_model.ckpt.index`, `.meta`, `.data-00000-of-00001`); what is given is the
    prefix, which is no file itself.

    *Why it happens*
    The prefix is another one (`from_tf=True` and conversion scripts look for `model.ckpt`, Google's archives have
    `bert_model.ckpt`), one of the files was given in place of the prefix, or the archive was not unpacked there.

    *How tfdiag confirms it*
    From the text only: TensorFlow's reader found no file for the prefix, and the path or the frames are those of a language model.

    *Fixes and their safety*
    None is carried out: give the right prefix, or a checkpoint that is already converted.

    *Example*
    `NotFoundError: Unsuccessful TensorSliceReader constructor: Failed to find any matching files for …/model.ckpt`

    *References*
    transformers 4: `modeling_utils.py`, `TF_WEIGHTS_NAME`; google-research/bert: README.
    """

    code = "TFW007"
    name = "tensorflow-checkpoint-not-found"
    message = re.compile(
        r"(?P<reader>Unsuccessful TensorSliceReader constructor): (?:Failed to find any matching files for|Failed to get matching files on)"
        r" (?P<prefix>\S+)"
    )
    CASES = (
        Match(
            text="NotFoundError: Unsuccessful TensorSliceReader constructor: Failed to find any matching files for "
            "/data/uncased_L-12_H-768_A-12/model.ckpt",
            certainty=Certainty.LIKELY,
            title="uncased_L-12_H-768_A-12/model.ckpt",
        ),
        Match(
            text="tensorflow.python.framework.errors_impl.NotFoundError: Unsuccessful TensorSliceReader constructor: Failed to find any "
            "matching files for ./chinese_roberta_wwm/bert_model.ckpt",
        ),
        Reproduce(
            (
                TENSORFLOW_SETUP + "from transformers import BertModel\n"
                "from transformers.models.bert.modeling_bert import load_tf_weights_in_bert",
                'load_tf_weights_in_bert(BertModel(config), config, "v1/model.ckpt")',
            ),
            certainty=Certainty.LIKELY,
            title="No TensorFlow checkpoint begins with .*v1/model.ckpt",
            needs=TENSORFLOW,
            isolated=True,
        ),
        NoMatch(
            text="NotFoundError: Unsuccessful TensorSliceReader constructor: Failed to find any matching files for ./unet/model-100.ckpt"
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        frames = " ".join(frame.file + frame.source for raised in failure.chain for frame in raised.frames)
        if not _LANGUAGE_MODEL.search(f"{hit['prefix']} {frames}"):
            return None
        prefix = hit["prefix"].rstrip(".,;:'\"")
        google = " (Google's archives have bert_model.ckpt)" if re.search(r"(?:^|[/\\])model\.ckpt$", prefix) else ""
        return self.found(
            f"No TensorFlow checkpoint begins with {path_told(prefix)}{google}",
            Certainty.LIKELY,
            what="The prefix of a checkpoint stands for its files PREFIX.index, PREFIX.meta and PREFIX.data-…; none is there.",
            why="Look at the names in that folder and give the part before `.index`; or load a checkpoint that is already converted "
            "(on the Hub, or by transformers 4's convert_bert_original_tf_checkpoint_to_pytorch).",
        )
