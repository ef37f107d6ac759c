from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, replace_symbol, transform
from tfdiag_ipython.migrate.edits import add_import
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_head import ModelHeadProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import exported, older

SAVED = (
    "import tempfile, torch\nfrom transformers import GPT2Config, GPT2LMHeadModel\nfolder = tempfile.mkdtemp()\n"
    "config = GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=0)\n"
    "GPT2LMHeadModel(config).save_pretrained(folder)"
)
BERT = (
    "import torch\nfrom transformers import BertConfig, BertModel\n"
    "model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9))"
)
OWN = (
    "import torch\nfrom transformers import PretrainedConfig, PreTrainedModel\n"
    "class TinyForCausalLM(PreTrainedModel):\n    config_class = PretrainedConfig\n"
    "model = TinyForCausalLM(PretrainedConfig())"
)
SEPARATED = "4.50"
"""The first release in which ``PreTrainedModel`` has no ``generate`` of its own."""


class GenerateWithoutHead(Rule):
    """`generate` of a model that has no head to generate with.

    *What it means*
    `generate` belongs to the classes with a language-modelling head. `AutoModel` and `GPT2Model` stop at the hidden states; a classifier
    has another head.

    *Why it happens*
    The model was loaded with `AutoModel` or with a class for another task; or it is an encoder (BERT), which no class makes a writer of; or
    its class is one's own, and from transformers 4.50 on `PreTrainedModel` no longer brings `generate`.

    *How tfdiag confirms it*
    It takes the model's class and model type, and looks into the auto classes' maps for the class with the head.

    *Fixes and their safety*
    `use-class-with-head` (unsafe: another class; where the checkpoint has no weights of the head, it starts untrained) writes it in the
    cell that makes the model. `inherit-generation` is shown only.

    *Example*
    `AutoModel.from_pretrained("gpt2").generate(ids)`.

    *References*
    transformers: `generation/utils.py`, `GenerationMixin`.
    """

    code = "IMP019"
    name = "generate-without-head"
    raised = ("builtins.AttributeError",)
    message = re.compile(r"'(?P<kind>\w+)' object has no attribute 'generate'")
    needs = (ModelHeadProbe,)
    fixes = (
        Offer("use-class-with-head", Applicability.UNSAFE),
        Offer("inherit-generation", Applicability.DISPLAY_ONLY),
    )
    CASES = (
        Match(
            text="AttributeError: 'GPT2Model' object has no attribute 'generate'",
            certainty=Certainty.LIKELY,
            title=r"`GPT2Model` has no generate\(\), which only classes with a language-modelling head have",
        ),
        Match(
            text="AttributeError: 'AcmeForCausalLM' object has no attribute 'generate'",
            certainty=Certainty.POSSIBLE,
            title=r"`AcmeForCausalLM` has no generate\(\): from transformers 4.50 on .* GenerationMixin",
            fixes=("inherit-generation",),
        ),
        NoMatch(text="AttributeError: 'Report' object has no attribute 'generate'"),
        NoMatch(text="AttributeError: 'ReportModel' object has no attribute 'generate'"),
        Reproduce(
            (
                SAVED,
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder)  # gpt",
                "out = model.generate(torch.tensor([[1]]), max_new_tokens=1)",
            ),
            title=r"`GPT2Model` has no generate\(\): GPT2LMHeadModel has, which AutoModelForCausalLM loads",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-class-with-head"),),
        ),
        Reproduce(
            (
                SAVED,
                "from transformers import GPT2ForSequenceClassification\n"
                "model = GPT2ForSequenceClassification.from_pretrained(folder)",
                "out = model.generate(torch.tensor([[1]]), max_new_tokens=1)",
            ),
            title=r"`GPT2ForSequenceClassification` has no generate\(\): GPT2LMHeadModel has",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-class-with-head"),),
        ),
        Reproduce(  # the other model of the cell is not to write
            (
                f"{SAVED}\nfrom transformers import AutoModel",
                "encoder = AutoModel.from_pretrained(folder)\nmodel = AutoModel.from_pretrained(folder)",
                "out = model.generate(torch.tensor([[1]]), max_new_tokens=1)\nvectors = encoder(out).last_hidden_state",
            ),
            title=r"`GPT2Model` has no generate\(\): GPT2LMHeadModel has",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-class-with-head"),),
        ),
        Reproduce(  # made in a function
            (
                f"{SAVED}\nfrom transformers import AutoModel, GPT2Model\n"
                "def load():\n    return AutoModel.from_pretrained(folder)\nmodel = load()",
                "out = model.generate(torch.tensor([[1]]), max_new_tokens=1)",
            ),
            title=r"`GPT2Model` has no generate\(\): GPT2LMHeadModel has",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-class-with-head"),),
        ),
        Reproduce(
            (BERT, "model.generate(torch.tensor([[1]]))"),
            title="`BertModel` cannot generate: `bert` is an encoder",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (OWN, "model.generate(torch.tensor([[1]]))"),
            title=r"`TinyForCausalLM` has no generate\(\): from transformers 4.50 on .* GenerationMixin",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, kind = evidence[ModelHeadProbe.name], hit["kind"]
        if not seen:
            return self._told(kind) if failure.stored else None
        if seen["kind"] != kind:
            return None
        if seen["own"]:
            known = failure.versions.get("transformers", "")
            return None if older(known, SEPARATED) else self._own(kind, Certainty.CONFIRMED, seen)
        auto, target = str(seen["auto"]), str(seen["target"])
        model_type = f"`{seen['model_type']}`"
        fixes: tuple[Fix, ...] = ()
        why = "A model writes text with a head that turns its hidden states into scores of the vocabulary."
        if seen["encoder"]:
            title = f"`{kind}` cannot generate: {model_type} is an encoder, which reads a text and fills in masks"
            why = "Load a model that writes: a decoder (GPT-2, Llama) or an encoder-decoder (T5, BART)."
        elif not auto:
            title = f"`{kind}` cannot generate: the installed transformers has no class that generates for {model_type}"
        else:
            title = f"`{kind}` has no generate(): {target} has, which {auto} loads"
            old = str(seen["written"])
            new = auto if old.startswith("Auto") else target
            note = f"{target} has the head. Where the checkpoint holds no weights of it, it starts untrained."
            values = {"old": old, "new": new, "variable": str(seen["variable"])}
            fixes = (self.offer("use-class-with-head", f"Load it with {new}", note, display=not old, **values),)
        return self.found(
            title,
            Certainty.CONFIRMED,
            what="Only classes with a language-modelling head generate.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def _told(self, kind: str) -> Diagnosis | None:
        """Of pasted text the class's name is all there is."""
        if kind in exported():
            return self.found(
                f"`{kind}` has no generate(), which only classes with a language-modelling head have",
                Certainty.LIKELY,
                what="The class stops at the hidden states, or has the head of another task.",
                why="Load it with AutoModelForCausalLM or AutoModelForSeq2SeqLM; an encoder (BERT) has no such class.",
            )
        return (
            self._own(kind, Certainty.POSSIBLE, Evidence()) if kind.endswith(("ForCausalLM", "LMHeadModel")) else None
        )

    def _own(self, kind: str, certainty: Certainty, seen: Evidence) -> Diagnosis:
        label = f"class {kind}(PreTrainedModel, GenerationMixin)"
        note = (
            "From transformers 4.50 on the class has to say so; code of a checkpoint's own that does not is outdated."
        )
        return self.found(
            f"`{kind}` has no generate(): from transformers {SEPARATED} on its class must inherit GenerationMixin",
            certainty,
            what="PreTrainedModel alone does not generate.",
            why=note,
            evidence=seen.seen,
            fixes=(self.offer("inherit-generation", label, note),),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new, variable = (str(fix.parameters[key]) for key in ("old", "new", "variable"))
        if variable:
            return edit_cells(scene, lambda source: made_by(source, variable, old, new))
        return edit_cells(scene, lambda source: replace_symbol(source, old, new, module="transformers"))


def made_by(source: str, variable: str, old: str, new: str) -> str:
    """The cell with ``new`` for ``old`` where it makes this variable: other models of the cell keep their class."""
    import libcst as cst

    class Namer(cst.CSTTransformer):
        def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
            return updated_node.with_changes(value=new) if updated_node.value == old else updated_node

    class Editor(cst.CSTTransformer):
        def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:
            if [dotted(target.target) for target in original_node.targets] != [variable]:
                return updated_node
            return updated_node.with_changes(value=updated_node.value.visit(Namer()))

    changed = transform(source, lambda tree: tree.visit(Editor()))
    imports = changed != source and re.search(rf"(?<![\w.]){new}\b", changed) is not None
    return add_import(changed, f"transformers.{new}") if imports else changed
