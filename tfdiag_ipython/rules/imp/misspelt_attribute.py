from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data.changes import methods
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import rename_attribute
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.attribute_names import AttributeNamesProbe
from tfdiag_ipython.probes.nearest import home
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp.array_method_of_tensor import ANSWERS

_CHANGED = {method.old for method in methods()}
MODEL = (
    "from transformers import GPT2Config, GPT2LMHeadModel\n"
    "model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=0))"
)
ENCODER = (
    "import torch\nfrom transformers import BertConfig, BertModel\n"
    "model = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9))"
)
TOKENIZER = (
    "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
    "words = Tokenizer(models.WordLevel({'a': 0, 'b': 1}, unk_token='a'))\n"
    "tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)\nbatch = tokenizer('b')"
)


class MisspeltAttribute(Rule):
    """A method or attribute of a model, tokenizer or batch whose name is nearly one that it has.

    *What it means*
    The object has no such attribute, and one that is spelt almost so.

    *Why it happens*
    A typing error, or a name from another library.

    *How tfdiag confirms it*
    It reads the names off the live object's classes and dictionaries, without running any of its properties: one alone is one slip of the
    fingers away, two in long names. Where several are, or only an underscore at an end differs, it asks. Names that a release removed,
    and those of another kind of object, are other rules'; of a tensor that was taken for a dictionary or a model's output it says nothing.

    *Fixes and their safety*
    `use-nearest-attribute` (safe: the only change is the name) is carried out where one name alone is near.

    *Example*
    `model.genrate(**inputs)`.

    *References*
    Python: `AttributeError.obj` and `.name`.
    """

    code = "IMP018"
    name = "misspelt-attribute"
    raised = ("builtins.AttributeError",)
    message = re.compile(r"has no attribute '?(?P<attribute>\w+)|\A\s*(?:(?P<bare>\w+)\s*)?\Z")
    needs = (AttributeNamesProbe,)
    fixes = (Offer("use-nearest-attribute", Applicability.SAFE),)
    CASES = (
        Match(
            text="AttributeError: 'GPT2LMHeadModel' object has no attribute 'genrate'",
            evidence={
                "attribute-names": {
                    "attribute": "genrate",
                    "kind": "GPT2LMHeadModel",
                    "library": "transformers",
                    "nearest": ("generate",),
                    "sure": True,
                    "callable": True,
                    "of": "",
                    "tensor": False,
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"`GPT2LMHeadModel.genrate` is misspelt: it has `generate\(\)`",
            fixes=("use-nearest-attribute",),
        ),
        NoMatch(text="AttributeError: 'GPT2LMHeadModel' object has no attribute 'genrate'"),
        NoMatch(text="AttributeError: 'Robot' object has no attribute 'genrate'"),
        Reproduce(
            (MODEL, "import torch\nids = model.genrate(torch.tensor([[1]]), max_new_tokens=1)  # one more"),
            title=r"`GPT2LMHeadModel.genrate` is misspelt: it has `generate\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-attribute"),),
        ),
        Reproduce(
            (MODEL, "model.transfomer.wte.weight.shape"),
            title="`GPT2LMHeadModel.transfomer` is misspelt: it has `transformer`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-attribute"),),
        ),
        Reproduce(
            (TOKENIZER, "ids = tokenizer.convert_token_to_ids('a')"),
            title=r"`\w+.convert_token_to_ids` is misspelt: it has `convert_tokens_to_ids\(\)`",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (TOKENIZER, "ids = batch.input_idss"),
            title="`BatchEncoding.input_idss` is misspelt: it has `input_ids`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-attribute"),),
        ),
        Reproduce(
            (f"{ENCODER}\nout = model(torch.tensor([[1]]))", "states = out.hidden_state"),  # `hidden_states` is empty
            title=r"`\w+` has no `hidden_state`: did you mean `last_hidden_state`\?",
            certainty=Certainty.POSSIBLE,
        ),
        Reproduce(
            ("import torch\nx = torch.ones(2)", "x.geometric(0.5)"),  # the one in place
            title=r"`Tensor` has no `geometric`: did you mean `geometric_`\?",
            certainty=Certainty.POSSIBLE,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[AttributeNamesProbe.name]
        if not seen or not seen["nearest"] or seen["attribute"] in _CHANGED:
            return None
        if seen["attribute"] not in (hit["attribute"], hit["bare"]) and hit["attribute"] + hit["bare"]:
            return None  # the message is another error's of the chain
        if seen["of"] or (seen["tensor"] and seen["attribute"] in ANSWERS):
            return None  # a name of another kind of object: IMP019 to IMP021
        old, best = seen["attribute"], seen["nearest"][0]
        if seen["tensor"] and home(old) and best.strip("_") != old:
            return None  # a dictionary's name, say: the object is not what it was taken for
        title = f"`{seen['kind']}.{old}` is misspelt: it has `{best}{'()' if seen['callable'] else ''}`"
        fixes: tuple[Fix, ...] = ()
        if seen["sure"]:
            once = len(re.findall(rf"\.\s*{re.escape(old)}\b", failure.source)) == 1
            told = "The only change is the name."
            fixes = (self.offer("use-nearest-attribute", f"Write .{best}", told, display=not once, old=old, new=best),)
        else:
            meant = " or ".join(f"`{name}`" for name in seen["nearest"])
            title = f"`{seen['kind']}` has no `{old}`: did you mean {meant}?"
        return self.found(
            title,
            Certainty.CONFIRMED if seen["sure"] else Certainty.POSSIBLE,
            what=f"The object has no `{old}`.",
            why=f"{home(old)} has one of that name." if home(old) else "The names were read off the object itself.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        return edit_cells(scene, lambda source: rename_attribute(source, old, new))
