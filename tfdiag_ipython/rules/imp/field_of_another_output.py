from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, transform, with_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_output import ModelOutputProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

MODEL = (
    "import torch\nfrom transformers import BertConfig, {kind}\n"
    "sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)\n"
    "model = {kind}(BertConfig(**sizes))\nids = torch.tensor([[1, 2]])"
)
_LAST = "hidden_states[-1]"


class FieldOfAnotherOutput(Rule):
    """A field of a model's output that only outputs of other classes have.

    *What it means*
    A model without a head returns `last_hidden_state`, one with a head `logits` and, with labels, `loss`. Each output has the fields of
    its own class.

    *Why it happens*
    The code was written for the other kind of model: `AutoModel` on one side, `AutoModelFor…` on the other.

    *How tfdiag confirms it*
    It reads the names of the fields off the output itself. In pasted text the class of the output tells.

    *Fixes and their safety*
    `take-last-layer` (unsafe: all layers are kept in memory) asks the model for its hidden states, where they were not asked for, and takes
    the last one.

    *Example*
    `AutoModelForCausalLM.from_pretrained("gpt2")(ids).last_hidden_state`.

    *References*
    transformers: `modeling_outputs.py`.
    """

    code = "IMP020"
    name = "field-of-another-output"
    raised = ("builtins.AttributeError",)
    message = re.compile(
        r"'(?P<kind>(?:BaseModel|Seq2SeqModel|CausalLM|MaskedLM|Seq2SeqLM|\w*Classifier|\w*QuestionAnsweringModel|MultipleChoiceModel)"
        r"Output\w*)' object has no attribute '(?P<field>last_hidden_state|pooler_output|logits)'"
    )
    needs = (ModelOutputProbe,)
    fixes = (Offer("take-last-layer", Applicability.UNSAFE),)
    CASES = (
        Match(
            text="AttributeError: 'CausalLMOutputWithPast' object has no attribute 'last_hidden_state'",
            certainty=Certainty.LIKELY,
            title=r"`CausalLMOutputWithPast` has no `last_hidden_state`: ask for output_hidden_states=True and take hidden_states\[-1\]",
        ),
        Match(
            text="AttributeError: 'BaseModelOutput' object has no attribute 'pooler_output'",
            title=r"`BaseModelOutput` has no `pooler_output`: this model has no pooler; take last_hidden_state\[:, 0\]",
        ),
        NoMatch(text="AttributeError: 'PrinterOutput' object has no attribute 'logits'"),
        NoMatch(text="AttributeError: 'CausalLMOutputWithPast' object has no attribute 'attention'"),
        Reproduce(
            (
                MODEL.format(kind="BertForSequenceClassification"),
                "out = model.bert(ids)\nfirst = out.last_hidden_state\nout = model(ids)",
                "last = out.last_hidden_state  # (1, 2, 8)",
            ),
            title=r"`SequenceClassifierOutput` has no `last_hidden_state`: ask for output_hidden_states=True",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("take-last-layer"),),
        ),
        Reproduce(
            (
                MODEL.format(kind="BertForMaskedLM"),
                "out = model(ids, output_hidden_states=True)\nlast = out.last_hidden_state",
            ),
            title=r"`MaskedLMOutput` has no `last_hidden_state`: take hidden_states\[-1\]",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("take-last-layer"),),
        ),
        Reproduce(
            (MODEL.format(kind="BertModel"), "scores = model(ids).logits"),
            title="has no `logits`: the model was loaded without a head",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                "import torch\nfrom transformers import DistilBertConfig, DistilBertModel\n"
                "model = DistilBertModel(DistilBertConfig(dim=8, hidden_dim=8, n_layers=1, n_heads=2, vocab_size=9))",
                "vector = model(torch.tensor([[1, 2]])).pooler_output",
            ),
            title="`BaseModelOutput` has no `pooler_output`: this model has no pooler",
            certainty=Certainty.CONFIRMED,
        ),
    )  # fmt: skip

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, kind, field = evidence[ModelOutputProbe.name], hit["kind"], hit["field"]
        if seen and (seen["kind"], seen["attribute"]) != (kind, field):
            return None
        if not seen and not failure.stored:
            return None
        headless = kind.startswith(("BaseModelOutput", "Seq2SeqModelOutput"))
        fields = {*seen["holds"], *seen["empty"]} if seen else set()
        fixes: tuple[Fix, ...] = ()
        if field == "logits" and headless:
            answer = "the model was loaded without a head; load it with the AutoModelFor… class of your task"
            why = "Scores come from a head; AutoModel and its like stop at the hidden states."
        elif field == "pooler_output" and headless and (not seen or "last_hidden_state" in fields):
            answer = "this model has no pooler; take last_hidden_state[:, 0] or the mean over the tokens"
            why = "Only some models (BERT) put a trained layer over the first token."
        elif field == "last_hidden_state" and "decoder_hidden_states" in fields:
            answer = f"ask for output_hidden_states=True and take decoder_{_LAST}, or encoder_last_hidden_state"
            why = "An encoder-decoder has two stacks of layers."
        elif field == "last_hidden_state" and not headless and (not seen or "hidden_states" in fields):
            there = bool(seen) and "hidden_states" in seen["holds"]
            answer = f"take {_LAST}" if there else f"ask for output_hidden_states=True and take {_LAST}"
            why = "A model with a head returns the head's scores; its layers' states only when they are asked for."
            fixes = self._take(failure, seen, there) if seen else ()
        else:
            return None
        return self.found(
            f"`{kind}` has no `{field}`: {answer}",
            Certainty.CONFIRMED if seen else Certainty.LIKELY,
            what="Each output has the fields of its own class, and this one is of another kind of model.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _take(self, failure: Failure, seen: Evidence, there: bool) -> tuple[Fix, ...]:
        name = str(seen["name"])
        once = len(re.findall(r"\.\s*last_hidden_state\b", failure.source)) == 1
        note = f"`output_hidden_states=True` keeps the states of every layer. {_LAST} is the last layer's."
        display = not once or not (name or there)
        return (self.offer("take-last-layer", f"Take {_LAST}", note, display=display, name=name, ask=not there),)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        name, ask = str(fix.parameters["name"]), bool(fix.parameters["ask"])
        failing = scene.cell.source if scene.cell else ""
        sources = [cell.source for cell in reversed(scene.cells)] if ask else []
        made = next((source for source in sources if asks_for_states(source, name) != source), "")

        def change(source: str) -> str:
            asked = asks_for_states(source, name) if source == made else source
            return takes_last(asked, name) if source == failing else asked

        return edit_cells(scene, change, every=True)


def asks_for_states(source: str, name: str) -> str:
    """The cell with ``output_hidden_states=True`` in the call whose result is bound to ``name``."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            call = updated_node.value
            targets = [dotted(target.target) for target in original_node.targets]
            if targets != [name] or not isinstance(call, cst.Call):
                return updated_node
            return updated_node.with_changes(value=with_arguments(call, {"output_hidden_states": "True"}))

    return transform(source, lambda tree: tree.visit(Editor()))


def takes_last(source: str, name: str) -> str:
    """The cell with ``.hidden_states[-1]`` for the ``.last_hidden_state`` of ``name``; of anything where it has no name."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
            if original_node.attr.value != "last_hidden_state" or (name and dotted(original_node.value) != name):
                return updated_node
            states = updated_node.with_changes(attr=cst.Name("hidden_states"))
            return cst.Subscript(states, [cst.SubscriptElement(cst.Index(cst.parse_expression("-1")))])

    return transform(source, lambda tree: tree.visit(Editor()))
