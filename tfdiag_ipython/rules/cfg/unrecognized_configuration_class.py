from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.loading import pipeline_task
from tfdiag_ipython.fixes.source import replace_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.auto_classes import AutoClassesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.cfg._heads import ranked, related
from tfdiag_ipython.rules.cfg.code_not_trusted import OWN_CODE

SETUP = """
import tempfile
from transformers import AutoModelForQuestionAnswering, ViTConfig, ViTForImageClassification
folder = tempfile.mkdtemp()
sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8, patch_size=4)
ViTForImageClassification(ViTConfig(**sizes)).save_pretrained(folder)
"""
T5 = """
import tempfile
from transformers import AutoModelForCausalLM, T5Config, T5ForConditionalGeneration
folder = tempfile.mkdtemp()
T5ForConditionalGeneration(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(folder)
"""


GPT2 = """
import pathlib, tempfile
from transformers import BertTokenizer, GPT2Config, GPT2LMHeadModel, pipeline
folder = tempfile.mkdtemp()
model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=8, n_embd=4, n_layer=1, n_head=1))
model.save_pretrained(folder)
file = pathlib.Path(folder, "config.json")
file.write_text(file.read_text().replace("architectures", "heads"))  # a file that does not name its class
pathlib.Path(folder, "vocab.txt").write_text("[PAD] [UNK] [CLS] [SEP] [MASK] a b c".replace(" ", chr(10)))
tokenizer = BertTokenizer(str(pathlib.Path(folder, "vocab.txt")))
"""


class UnrecognizedConfigurationClass(Rule):
    """The checkpoint is of a kind that this auto class has no model for.

    *What it means*
    Every auto class maps configurations to the models that have its head. This checkpoint's configuration is not in the map of the
    auto class that was called.

    *Why it happens*
    The architecture has no such head at all, the head belongs to another auto class (an image-text model loaded as a causal language
    model), or the model's code lives on the Hub and registers only some auto classes (its `auto_map`).

    *How tfdiag confirms it*
    It reads the configuration from the failing frame and looks its model type up in the maps of every auto class of the transformers
    that is installed here, without importing a model.

    *Fixes and their safety*
    `use-accepting-class` (unsafe: another head means another output) edits the cell to the auto class that fits the checkpoint's own
    `architectures`. `use-related-class` (unsafe: the head is not in the checkpoint and starts untrained) takes the auto class that comes
    nearest to what was asked for. `use-other-task` (unsafe) does the same to a pipeline's task.

    *Example*
    `AutoModelForQuestionAnswering.from_pretrained(vit_checkpoint)`: use `AutoModelForImageClassification`.

    *References*
    transformers: `models/auto/auto_factory.py`, `_BaseAutoModelClass.from_pretrained`; the Auto Classes page of its documentation.
    """

    code = "CFG001"
    name = "unrecognized-configuration-class"
    raised = ("builtins.ValueError", "builtins.KeyError")
    message = re.compile(
        r"Unrecognized configuration class (?:<class '(?P<config>[\w.\-]+)'>|(?P<bare>[\w.]+)).{0,40}?"
        r"(?:for this kind of \w+: (?P<auto>\w+)|to build an? (?P<built>\w+))"
        r"|\A<class '(?P<unmapped>transformers[\w.\-]*\.\w+Config)'>",
        re.DOTALL,
    )
    needs = (AutoClassesProbe,)
    fixes = (
        Offer("use-accepting-class", Applicability.UNSAFE),
        Offer("use-related-class", Applicability.UNSAFE),
        Offer("use-other-task", Applicability.UNSAFE),
    )
    links = (Link("Auto classes", "https://huggingface.co/docs/transformers/model_doc/auto"),)
    CASES = (
        Match(
            text="ValueError: Unrecognized configuration class <class 'transformers.models.t5.configuration_t5.T5Config'> for this "
            "kind of AutoModel: AutoModelForCausalLM.\nModel type should be one of BartConfig, BertConfig.",
            certainty=Certainty.LIKELY,
            title="AutoModelForCausalLM .*T5Config",
        ),
        Match(
            text="ValueError: Unrecognized configuration class <class 'transformers.models.vit.configuration_vit.ViTConfig'> for this "
            "kind of AutoModel: AutoModelForQuestionAnswering.\nModel type should be one of AlbertConfig.",
            evidence={
                "auto-classes": {
                    "model_type": "vit",
                    "config_class": "ViTConfig",
                    "architectures": ("ViTForImageClassification",),
                    "wanted": "AutoModelForQuestionAnswering",
                    "accepting": {
                        "AutoModel": "ViTModel",
                        "AutoModelForImageClassification": "ViTForImageClassification",
                    },
                    "checkpoint": "vit",
                    "own_code": False,
                    "task": "",
                    "tasks": {},
                }
            },
            certainty=Certainty.CONFIRMED,
            title="use AutoModelForImageClassification",
            fixes=("use-accepting-class",),
        ),
        Match(
            text="ValueError: Unrecognized configuration class <class 'transformers.configuration_distilbert.DistilBertConfig'> to build an "
            "AutoTokenizer.\nModel type should be one of T5Config, BertConfig.",
            title="AutoTokenizer has no class for DistilBertConfig",
        ),
        Match(
            text="KeyError: <class 'transformers.models.falcon.configuration_falcon.FalconConfig'>",
            title="auto class has no model for FalconConfig",
        ),
        NoMatch(text="KeyError: <class 'shop.config.ShopConfig'>"),
        NoMatch(text="ValueError: Unrecognized image processor in the box."),
        NoMatch(text="pydantic.ConfigError: Unrecognized configuration class"),
        Reproduce(
            (SETUP, "model = AutoModelForQuestionAnswering.from_pretrained(folder)  # a ViT"),
            title="use AutoModelForImageClassification",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-accepting-class"),),
        ),
        Reproduce(
            (T5, "model = AutoModelForCausalLM.from_pretrained(folder)"),
            title="use AutoModelForSeq2SeqLM",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-accepting-class"),),
        ),
        Reproduce(
            (
                "from transformers import AutoModelForSeq2SeqLM, BertConfig\n"
                "small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)",
                "model = AutoModelForSeq2SeqLM.from_config(small)",
            ),
            title="nearest to it is AutoModelForCausalLM",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-related-class"),),
        ),
        Reproduce(
            (GPT2, "fill = pipeline('fill-mask', model=folder, tokenizer=tokenizer)"),
            title=r"AutoModelForMaskedLM has no model for GPT2Config .*`text-generation`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-other-task"),),
        ),
        Reproduce(
            (
                OWN_CODE,
                "from transformers import AutoModel\nmodel = AutoModel.from_pretrained(folder, trust_remote_code=True)",
            ),
            title="AutoModel has no model for OwnConfig .*: use AutoModelForCausalLM, which its own code registers",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-accepting-class"),),
            isolated=True,
        ),
        Reproduce(
            (
                "import tempfile\nfrom transformers import AutoTokenizer, ViTConfig\nfolder = tempfile.mkdtemp()\n"
                "ViTConfig().save_pretrained(folder)",
                "AutoTokenizer.from_pretrained(folder)",
            ),
            title="AutoTokenizer has no class for ViTConfig",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5"),
        ),
        Reproduce(
            ("from transformers import AutoBackbone, BertConfig", "AutoBackbone.from_config(BertConfig())"),
            title="AutoBackbone has no class for BertConfig .*: this architecture is no backbone",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[AutoClassesProbe.name]
        auto = hit["auto"] or hit["built"] or "This auto class"
        config = (hit["config"] or hit["bare"] or hit["unmapped"]).rpartition(".")[2]
        if not seen:
            return self.found(
                f"{auto} has no {'class' if hit['built'] else 'model'} for {config}",
                Certainty.LIKELY,
                what=f"The checkpoint's configuration is a {config}; the map of {auto} has no entry for it.",
                why="Its architecture has no such head, or its head belongs to another auto class.",
            )
        wanted = str(seen["wanted"]) or auto
        accepting: Mapping[str, str] = seen["accepting"]
        order = ranked(wanted, accepting, seen["architectures"])
        best = next((name for name in order if accepting[name] in seen["architectures"]), "")
        near = next((name for name in related(wanted) if name in accepting), "")
        kind = f"{seen['config_class']} (model type `{seen['model_type']}`)"
        known = f"The installed transformers accepts `{seen['model_type']}` in"
        if seen["own_code"]:
            known, best = "The checkpoint's own code registers", order[0] if order else ""
        why = f"{known}: {', '.join(order) or 'no auto class'}."
        if not wanted.startswith("AutoModel"):
            reason = {
                "AutoTokenizer": "it is no model of text, or takes another model's tokenizer",
                "AutoBackbone": "this architecture is no backbone for features of images",
            }.get(wanted, "this architecture has none")
            return self.found(
                f"{wanted} has no class for {kind}: {reason}",
                Certainty.CONFIRMED,
                what=f"The map of {wanted} has no entry for this configuration.",
                why=f"{why} Images and sound are prepared by AutoImageProcessor or AutoFeatureExtractor."
                if wanted == "AutoTokenizer"
                else why,
                evidence=seen.seen,
            )
        task = _task(seen, best or near)
        fixes: tuple[Fix, ...] = ()
        saved = f"The checkpoint was saved from {', '.join(seen['architectures'])}; "
        if task:
            answer = f"ask for the task `{task}`"
            note = f"It loads {accepting[best or near]}."
            fixes = (self.offer("use-other-task", f"Use the task {task}", note, old=seen["task"], new=task),)
        elif best:
            answer = f"use {best}" + (", which its own code registers" if seen["own_code"] else "")
            label = f"Load it with {best}"
            note = f"{saved if seen['architectures'] else ''}{best} loads {accepting[best]}."
            fixes = (self.offer("use-accepting-class", label, note, old=wanted, new=best),)
        elif near:
            answer = f"nearest to it is {near}"
        else:
            answer = "no auto class of the installed version fits its saved architecture"
        if near and near != best and not seen["task"]:
            note = f"It loads {accepting[near]}. What of its head is not in the checkpoint starts untrained: train it first."
            fixes += (self.offer("use-related-class", f"Load it with {near}", note, old=wanted, new=near),)
        return self.found(
            f"{wanted} has no model for {kind}: {answer}",
            Certainty.CONFIRMED,
            what=f"The checkpoint's model type is `{seen['model_type']}`, which {wanted} does not know.",
            why=why,
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        if fix.id == "use-other-task":
            return edit_cells(scene, lambda source: pipeline_task(source, old, new), apart=True)
        return edit_cells(scene, lambda source: replace_symbol(source, old, new, module="transformers"))


def _task(seen: Evidence, auto: str) -> str:
    """The pipeline's task that loads this auto class; empty where no pipeline was asked for, or none does."""
    task = seen["tasks"].get(auto, "") if seen["task"] else ""
    return str(task) if task != seen["task"] else ""
