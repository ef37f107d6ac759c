from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_folder import ModelFolderProbe
from tfdiag_ipython.probes.state_dict import Mismatch, StateDictProbe, mismatches
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

SETUP = """
import tempfile
from transformers import BertConfig, BertForSequenceClassification
folder = tempfile.mkdtemp()
sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
BertForSequenceClassification(BertConfig(num_labels=3, **sizes)).save_pretrained(folder)
"""
_HEAD = re.compile(r"(?:^|\.)(?:classifier|score|qa_outputs|logits_proj|head|fc\d?|out_proj|predictor|cls)\b")
_EMBEDDING = re.compile(
    r"(?!.*norm)(?:.*(?:embed|wte|shared|lm_head|predictions\.(?:bias|decoder)|output_layer|tok_))", re.IGNORECASE
)
LABELS = {"num_labels": None, "id2label": None, "label2id": None}


class StateDictShapeMismatch(Rule):
    """A checkpoint's tensors have other shapes than the model into which they are loaded.

    *What it means*
    Names agree, sizes do not: the model was built with other sizes than the one that was saved.

    *Why it happens*
    Another number of labels (the head), another vocabulary (tokens were added before saving, or not yet), or another configuration
    altogether (base against large, another backbone).

    *How tfdiag confirms it*
    It takes all names with both shapes from the loading frames (transformers 5 raises without them) or the message.

    *Fixes and their safety*
    `reinitialize-head` (unsafe: the head is random and must be trained) adds `ignore_mismatched_sizes=True`; `keep-checkpoint-labels`
    (unsafe: another number of labels) takes `num_labels` out of the call.

    *Example*
    `BertForSequenceClassification.from_pretrained(three_label_checkpoint, num_labels=5)`

    *References*
    torch: `Module.load_state_dict`; transformers: `PreTrainedModel.from_pretrained`, `ignore_mismatched_sizes`.
    """

    code = "CKP003"
    name = "state-dict-shape-mismatch"
    raised = ("builtins.RuntimeError", "builtins.ValueError")
    message = re.compile(
        r"(?:Error\(s\) in loading state_dict for (?P<model>\w+)\b(?:(?!Error\(s\)).)*?)?(?P<mismatch>size mismatch for \S+: copying a param)"
        r"|(?P<assigned>Trying to set a tensor of shape torch\.Size)|(?P<report>You set `ignore_mismatched_sizes` to `False`)",
        re.DOTALL,
    )
    needs = (StateDictProbe, ModelFolderProbe)
    fixes = (
        Offer("reinitialize-head", Applicability.UNSAFE),
        Offer("keep-checkpoint-labels", Applicability.UNSAFE),
    )
    links = (Link("from_pretrained", "https://huggingface.co/docs/transformers/main_classes/model"),)
    CASES = (
        Match(
            text="RuntimeError: Error(s) in loading state_dict for DistilBertForTokenClassification:\n\tsize mismatch for "
            "classifier.weight: copying a param with shape torch.Size([9, 768]) from checkpoint, the shape in current model is "
            "torch.Size([15, 768]).\n\tsize mismatch for classifier.bias: copying a param with shape torch.Size([9]) from checkpoint, "
            "the shape in current model is torch.Size([15]).",
            certainty=Certainty.LIKELY,
            title="`classifier.weight` has 9 labels in the checkpoint, 15 in the model",
        ),
        Match(
            text="RuntimeError: Error(s) in loading state_dict for LlamaForCausalLM:\n\tsize mismatch for model.embed_tokens.weight: "
            "copying a param with shape torch.Size([32001, 4096]) from checkpoint, the shape in current model is "
            "torch.Size([32000, 4096]).",
            title="vocabulary of 32,001 .* 32,000",
        ),
        Match(
            text="RuntimeError: Error(s) in loading state_dict for Linear:\n        size mismatch for weight: copying a param with shape "
            "torch.Size([256, 1152]) from checkpoint, the shape in current model is torch.Size([256, 768]).",
            title=r"\[256, 1152\] in the checkpoint, \[256, 768\] in the model",
        ),
        Match(
            text="Key | Status |\n-----+----\nclassifier.weight | MISMATCH | Reinit due to size mismatch - ckpt: torch.Size([3, 8]) vs "
            "model:torch.Size([5, 8])\n\nRuntimeError: You set `ignore_mismatched_sizes` to `False`, thus raising an error. For details "
            "look at the above report!",
            title="3 labels in the checkpoint, 5 in the model",
        ),
        NoMatch(
            text="RuntimeError: The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1"
        ),
        Reproduce(
            (SETUP, "model = BertForSequenceClassification.from_pretrained(folder, num_labels=5)"),
            certainty=Certainty.CONFIRMED,
            title=r"`classifier\.(weight|bias)` has 3 labels in the checkpoint, 5 in the model",
            fixes=(Try("reinitialize-head"), Try("keep-checkpoint-labels")),
        ),
        Reproduce(
            (
                SETUP + "import os\nos.remove(os.path.join(folder, 'config.json'))",
                "model = BertForSequenceClassification.from_pretrained(folder)",
            ),
            certainty=Certainty.CONFIRMED,
            title="holds no config.json, so BertForSequenceClassification was made with its default sizes",
        ),
        Reproduce(
            (
                SETUP + "model = BertForSequenceClassification.from_pretrained(folder)\nimport torch\n",
                "torch.nn.Linear(8, 5).load_state_dict(model.classifier.state_dict())",
            ),
            certainty=Certainty.CONFIRMED,
            title=r"`weight` is \[3, 8\] in the checkpoint, \[5, 8\] in the model",
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[StateDictProbe.name]
        found: list[Mismatch] = list(seen.get("mismatched", ())) or mismatches(failure)
        model = seen.get("model") or hit["model"] or "the model"
        if not found:
            return self.found(
                "Tensors of the checkpoint have other shapes than the model's; the log's loading report names them",
                Certainty.LIKELY,
                what="ignore_mismatched_sizes is off, so from_pretrained stops.",
                why="Another number of labels, another vocabulary or another model size than the saved one.",
            )
        name, stored, wanted = found[0]
        labels = (
            len(stored) == len(wanted) and stored[1:] == wanted[1:] and bool(_HEAD.search(name)) and len(found) <= 4
        )
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        folder = evidence[ModelFolderProbe.name]
        if folder and not folder["config"] and "config" not in failure.source:
            return self._no_config(found[0], model, seen, folder)
        why = f"{model} was built from another configuration than the one saved: load the checkpoint's own config."
        if labels:
            title = f"`{name}` has {stored[0]} labels in the checkpoint, {wanted[0]} in the model{more}"
            why = "Give the model the checkpoint's number of labels to use its head, or start a new head for your own labels."
        elif stored[1:] == wanted[1:] and _EMBEDDING.match(name):
            title = (
                f"The checkpoint has a vocabulary of {stored[0]:,} tokens, {model} one of {wanted[0]:,}: `{name}`{more}"
            )
            why = f"Tokens were added on one side only: load with the checkpoint's config, or resize_token_embeddings({stored[0]}) first."
        else:
            title = f"`{name}` is {list(stored)} in the checkpoint, {list(wanted)} in the model{more}"
        return self.found(
            title[:200],
            Certainty.CONFIRMED if seen.get("mismatched") else Certainty.LIKELY,
            what=f"{len(found)} tensor(s) of the checkpoint do not fit {model}.",
            why=why,
            evidence=seen.seen,
            fixes=self._offers(failure, seen, labels),
        )

    def _no_config(self, worst: Mismatch, model: str, seen: Evidence, folder: Evidence) -> Diagnosis:
        """A concrete class is made with its default sizes where a folder does not tell others."""
        name, stored, wanted = worst
        return self.found(
            f"`{folder['shown'][-60:]}` holds no config.json, so {model} was made with its default sizes: `{name[-60:]}` is {list(stored)} in "
            f"the checkpoint, {list(wanted)} in the model"[:200],
            Certainty.CONFIRMED,
            what="The weights are there; the file that tells the model's sizes is not.",
            why="Only the weights were copied or saved: copy config.json beside them (`save_pretrained` writes both), or pass the "
            "configuration that the model was trained with: `config=`.",
            evidence=(*seen.seen[:3], *folder.seen),
        )

    def _offers(self, failure: Failure, seen: Evidence, labels: bool) -> tuple[Fix, ...]:
        if not labels or not seen.get("checkpoint"):
            return ()
        head = self.offer(
            "reinitialize-head",
            "Start a new head: ignore_mismatched_sizes=True",
            "The head's weights are random afterwards: train before you use it.",
        )
        if not any(f"{name}=" in failure.source.replace(" ", "") for name in LABELS):
            return (head,)
        keep = self.offer("keep-checkpoint-labels", "Use the checkpoint's labels", "Takes num_labels out of the call.")
        return (head, keep)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        arguments = LABELS if fix.id == "keep-checkpoint-labels" else {"ignore_mismatched_sizes": "True"}
        return edit_cells(
            scene, lambda source: set_arguments(source, calls_to("from_pretrained"), arguments), apart=True
        )
