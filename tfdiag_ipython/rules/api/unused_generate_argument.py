from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data.changes import Argument, methods
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.migrate.edits import argument_edit
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.generate_arguments import GenerateArgumentsProbe
from tfdiag_ipython.probes.nearest import guess, with_a_word
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.api._arguments import edit_argument, gives_both

MODEL = (
    "import torch\nfrom transformers import GPT2Config, GPT2LMHeadModel\n"
    "model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, bos_token_id=0, eos_token_id=0))\n"
    "ids = torch.tensor([[1]])"
)
KNOWN = (
    *(method.old for method in methods() if method.edit == "generation"),
    *(
        "max_new_tokens",
        "min_new_tokens",
        "eos_token_id",
        "pad_token_id",
        "attention_mask",
        "streamer",
        "use_cache",
        "min_p",
    ),
)
"""Names that stored text is compared with."""
BATCH = {
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "special_tokens_mask",
    "offset_mapping",
    "length",
    "overflow_to_sample_mapping",
}
"""Names that tokenizers give to what they return."""


class UnusedGenerateArgument(Rule):
    """An argument of `generate()` that neither generation nor the model's `forward` takes.

    *What it means*
    `generate` hands on what it does not know to the model, and stops when the model does not know it either.

    *Why it happens*
    The name is misspelt (`num_beans`), or the tokenizer returns something that this model does not take, `token_type_ids` above all.

    *How tfdiag confirms it*
    It compares the name with those of the generation configuration, of `generate` and of the model's `forward`, read from the frame.

    *Fixes and their safety*
    `rename-argument` (safe: the setting that was meant) where one name alone is near. What the tokenizer gave is to be left out by hand:
    `return_token_type_ids=False`.

    *Example*
    `model.generate(ids, max_new_token=20)`.

    *References*
    transformers: `generation/utils.py`, `_validate_model_kwargs`.
    """

    code = "API004"
    name = "unused-generate-argument"
    raised = ("builtins.ValueError",)
    message = re.compile(r"The following `model_kwargs` are not used by the model: \[(?P<names>[^\]]{1,500})\]")
    needs = (GenerateArgumentsProbe,)
    fixes = (Offer("rename-argument", Applicability.SAFE), Offer("leave-it-out", Applicability.DISPLAY_ONLY))
    CASES = (
        Match(
            text="ValueError: The following `model_kwargs` are not used by the model: ['num_beems'] (note: typos in the generate "
            "arguments will also show up in this list)",
            certainty=Certainty.LIKELY,
            title=r"generate\(\) has no argument `num_beems`: did you mean `num_beams`",
        ),
        Match(
            text="ValueError: The following `model_kwargs` are not used by the model: ['token_type_ids'] (note: typos in the generate "
            "arguments will also show up in this list)",
            certainty=Certainty.LIKELY,
            title="The model does not take `token_type_ids`, which the tokenizer gave: leave it out",
            fixes=("leave-it-out",),
        ),
        NoMatch(text="ValueError: The following `keys` are not used by the model: ['num_beems']"),
        Reproduce(
            (MODEL, "out = model.generate(ids, max_new_token=2)  # short"),
            title=r"generate\(\) has no argument `max_new_token`: did you mean `max_new_tokens`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
        ),
        Reproduce(
            (
                MODEL,
                "batch = {'input_ids': ids, 'special_tokens_mask': ids}\nout = model.generate(**batch, max_new_tokens=2)",
            ),
            title="GPT2LMHeadModel does not take `special_tokens_mask`, which the tokenizer gave: leave it out",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(  # the right one is given, too
            (MODEL, "out = model.generate(ids, max_new_tokens=2, max_new_token=3)"),
            title="did you mean `max_new_tokens`",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (MODEL, "out = model.generate(ids, flavour='sweet', max_new_tokens=2)"),
            title=r"Neither generate\(\) nor GPT2LMHeadModel takes `flavour`",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[GenerateArgumentsProbe.name]
        asked = re.findall(r"\w+", hit["names"])
        known = tuple(seen.get("names", ())) or KNOWN
        model = str(seen.get("model", "")) or "the model"
        near = {name: guess(name, known) or with_a_word(name, known) for name in asked if name not in BATCH}
        meant = {name: found for name, found in near.items() if found}
        fixes: tuple[Fix, ...] = ()
        certainty = Certainty.CONFIRMED if seen else Certainty.LIKELY
        if meant:
            name, found = next(iter(meant.items()))
            title = f"generate() has no argument `{name}`: did you mean {found.told}?"
            if found.sure:
                by_hand = bool(failure.source) and not re.search(rf"\b{name}\b", failure.source)
                by_hand = by_hand or gives_both(failure.source, name, found.names[0])
                values = {"old": name, "new": found.names[0]}
                fixes = (self.offer("rename-argument", f"Write {found.names[0]}=", display=by_hand, **values),)
            else:
                certainty = Certainty.POSSIBLE
        elif given := [name for name in asked if name in BATCH]:
            title = f"{model[:1].upper()}{model[1:]} does not take `{given[0]}`, which the tokenizer gave: leave it out"
            told = f"`batch.pop({given[0]!r})` before generate(), or `tokenizer(…, return_{given[0]}=False)`."
            fixes = (self.offer("leave-it-out", f"Leave {given[0]} out", told),)
        elif seen:
            title = f"Neither generate() nor {model} takes `{asked[0]}`" if asked else ""
        else:
            return None
        return self.found(
            title,
            certainty,
            what=f"{', '.join(f'`{name}`' for name in asked)} would have been ignored.",
            why="What generate() does not know it hands on to the model, which does not know it either.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        known = Argument(of="", old=old, new=new, edit="rename")
        return edit_argument(
            scene, old, "generate", lambda call: argument_edit(call, known), lambda entry: entry.changed(known), new=new
        )
