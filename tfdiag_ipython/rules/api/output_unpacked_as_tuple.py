from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, transform, with_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.unpacked_output import UnpackedOutputProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

if TYPE_CHECKING:
    import libcst as cst

BERT = """
import torch
from transformers import BertConfig, BertModel
sizes = dict(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
bert = BertModel(BertConfig(**sizes)).eval()
ids = torch.tensor([[2, 3, 4]])
"""
NET = (
    "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.bert = bert\n"
    "        self.drop = torch.nn.Dropout(0.1)\n        self.out = torch.nn.Linear(8, 2)\n\n"
    "    def forward(self, ids):\n        _, pooled = self.bert(ids)  # as it was\n        return self.out(self.drop(pooled))\n"
    "net = Net()"
)


class OutputUnpackedAsTuple(Rule):
    """A model's output was unpacked like a tuple, and gave the names of its fields: text where tensors are expected.

    *What it means*
    Since transformers 4 a model returns an object that is a dictionary. Unpacked into variables it gives its keys, "last_hidden_state"
    and "pooler_output", and a layer that is given one of them refuses text.

    *Why it happens*
    The code was written for transformers 3, where `_, pooled = bert(ids)` gave two tensors.

    *How tfdiag confirms it*
    In the cell's frame it finds the variable that holds the name of a field, and the statement that unpacked a model's output into it.

    *Fixes and their safety*
    `return-a-tuple` (safe: the tensors that the code was written for) adds `return_dict=False` to that call.

    *Example*
    `_, pooled = bert(ids); dropout(pooled)`.

    *References*
    transformers: the page on model outputs; `utils/generic.py`, `ModelOutput`.
    """

    code = "API007"
    name = "output-unpacked-as-tuple"
    raised = ("builtins.TypeError", "builtins.AttributeError")
    specific = True
    message = re.compile(
        r"(?P<layer>dropout|linear|layer_norm|softmax|log_softmax|relu|tanh|gelu)\(\): argument 'input' \(position 1\) must be Tensor, not "
        r"(?P<given>str|(?:BaseModel|Seq2Seq|CausalLM|MaskedLM|\w{1,20}Classifier)\w{0,40}Output\w{0,60})\b"
        r"|'str' object has no attribute '\w+'"
    )
    needs = (UnpackedOutputProbe,)
    fixes = (Offer("return-a-tuple", Applicability.SAFE),)
    links = (Link("Model outputs", "https://huggingface.co/docs/transformers/main_classes/output"),)
    CASES = (
        Match(
            text="TypeError: linear(): argument 'input' (position 1) must be Tensor, not str",
            certainty=Certainty.LIKELY,
            title=r"A layer was given the name of a field: a model's output was unpacked like a tuple.*return_dict=False",
            fixes=("return-a-tuple",),
        ),
        Match(
            text="TypeError: linear(): argument 'input' (position 1) must be Tensor, not BaseModelOutputWithPoolingAndCrossAttentions",
            certainty=Certainty.LIKELY,
            title=r"linear\(\) was given a model's whole output: take a tensor out of it, `\.last_hidden_state` or `\.pooler_output`",
        ),
        Match(
            text="TypeError: dropout(): argument 'input' (position 1) must be Tensor, not SequenceClassifierOutput",
            title=r"take a tensor out of it, `\.logits`\Z",
        ),
        Match(
            text="TypeError: linear(): argument 'input' (position 1) must be Tensor, not BaseModelOutput",
            title=r"take a tensor out of it, `\.last_hidden_state`\Z",
        ),
        NoMatch(text="AttributeError: 'str' object has no attribute 'view'"),
        NoMatch(text="TypeError: linear(): argument 'input' (position 1) must be Tensor, not list"),
        NoMatch(text="TypeError: linear(): argument 'input' (position 1) must be Tensor, not BoilerOutput"),
        Reproduce(
            (BERT, NET, "scores = net(ids)"),
            title=r"`pooled` is the text 'pooler_output': BertModel's output was unpacked like a tuple, .* return_dict=False",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("return-a-tuple"),),
        ),
        Reproduce(
            (BERT, "states, rest = bert(ids)\nfirst = states.view(-1, 8)"),
            title="`states` is the text 'last_hidden_state'",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("return-a-tuple"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, given = evidence[UnpackedOutputProbe.name], hit["given"]
        if given and given != "str":
            return self.found(
                f"{hit['layer']}() was given a model's whole output: take a tensor out of it, {_fields(given)}",
                Certainty.LIKELY,
                what=f"A {given} came where a tensor is expected.",
                why="A model returns an object with a field for each of its tensors.",
            )
        why = "Since transformers 4 a model's output is a dictionary, and unpacking a dictionary gives its keys."
        if not seen:
            if not given or not failure.stored:
                return None
            return self.found(
                "A layer was given the name of a field: a model's output was unpacked like a tuple, which takes return_dict=False",
                Certainty.LIKELY,
                what="Text came where a tensor is expected.",
                why=why,
                fixes=(self._tuple("model"),),
            )
        return self.found(
            f"`{seen['variable']}` is the text '{seen['field']}': {seen['model']}'s output was unpacked like a tuple, "
            "which takes return_dict=False",
            Certainty.CONFIRMED,
            what=f"`{seen['called']}(...)` returned an object whose fields have names; unpacked, it gave the names.",
            why=why,
            evidence=seen.seen,
            fixes=(self._tuple(str(seen["called"])),),
        )

    def _tuple(self, called: str) -> Fix:
        note = f"Adds `return_dict=False` to the call of `{called}`: it then returns a tuple of the tensors."
        return self.offer("return-a-tuple", "Ask for a tuple", note, called=called)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return edit_cells(scene, lambda source: _unpacked(source, str(fix.parameters["called"])))


def _fields(output: str) -> str:
    """The fields that are wanted most, by the name of the output's class."""
    if output.startswith("Base"):
        pooled = "" if "Pooling" not in output else " or `.pooler_output`"
        return f"`.last_hidden_state`{pooled}"
    return "`.last_hidden_state`" if output.startswith("Seq2SeqModel") else "`.logits`"


def _unpacked(source: str, called: str) -> str:
    """The cell with `return_dict=False` in the calls of this model that are unpacked."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            value, target = updated_node.value, original_node.targets[0].target
            unpacks = isinstance(target, (cst.Tuple, cst.List))
            if not unpacks or not isinstance(value, cst.Call) or dotted(value.func) != called:
                return updated_node
            return updated_node.with_changes(value=with_arguments(value, {"return_dict": "False"}))

    return transform(source, lambda tree: tree.visit(Editor()))
