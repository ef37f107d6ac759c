from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import replace_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.auto_classes import AutoClassesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

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
    `architectures`.

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
    fixes = (Offer("use-accepting-class", Applicability.UNSAFE),)
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
                    "remote": (),
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
        accepting: Mapping[str, str] = seen["accepting"]
        best = _fitting(accepting, seen["architectures"])
        answer = f"use {best}" if best else "no auto class of the installed version fits its saved architecture"
        fixes: tuple[Fix, ...] = ()
        if best:
            explanation = (
                f"The checkpoint was saved from {', '.join(seen['architectures'])}; {best} loads {accepting[best]}."
            )
            fixes = (self.offer("use-accepting-class", f"Load it with {best}", explanation, old=auto, new=best),)
        return self.found(
            f"{auto} has no model for {seen['config_class']} (model type `{seen['model_type']}`): {answer}",
            Certainty.CONFIRMED,
            what=f"The checkpoint's model type is `{seen['model_type']}`, which {auto} does not know.",
            why=f"The installed transformers accepts `{seen['model_type']}` in: {', '.join(accepting) or 'no auto class'}.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        return edit_cells(scene, lambda source: replace_symbol(source, old, new, module="transformers"))


def _fitting(accepting: Mapping[str, str], architectures: tuple[str, ...]) -> str:
    """The auto class that loads the very class the checkpoint was saved from; the most telling of several."""
    exact = [auto for auto, model in accepting.items() if model in architectures]
    general = ("AutoModelForPreTraining", "AutoModel")  # they load it, too, and do not say what for
    return min(exact, key=lambda auto: general.index(auto) + 1 if auto in general else 0, default="")
