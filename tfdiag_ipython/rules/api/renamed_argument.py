from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, rename_keyword
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.callable_signature import UNEXPECTED, CallableSignatureProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import passes
from tfdiag_ipython.rules.imp._symbols import older


class Argument(NamedTuple):
    """What became of an argument."""

    owner: str  # the callable that lost it; empty: models
    new: str = ""  # its new name; empty: none
    since: str = ""  # the first minor release of transformers that takes the new name
    note: str = ""  # what to write where that is more than another name
    renamed: bool = False  # the new one takes the same value


ARGUMENTS = {
    "evaluation_strategy": Argument("TrainingArguments", "eval_strategy", "4.41", renamed=True),
    "no_cuda": Argument("TrainingArguments", "use_cpu", "4.32", renamed=True),
    "per_gpu_train_batch_size": Argument("TrainingArguments", "per_device_train_batch_size", renamed=True),
    "per_gpu_eval_batch_size": Argument("TrainingArguments", "per_device_eval_batch_size", renamed=True),
    "warmup_ratio": Argument("TrainingArguments", "warmup_steps", renamed=True),
    "overwrite_output_dir": Argument("TrainingArguments"),
    "save_safetensors": Argument("TrainingArguments"),
    "group_by_length": Argument("TrainingArguments", note="use `train_sampling_strategy='group_by_length'`"),
    "adafactor": Argument("TrainingArguments", note="use `optim='adafactor'`"),
    "logging_dir": Argument("TrainingArguments", note="set the variable TENSORBOARD_LOGGING_DIR"),
    "include_inputs_for_metrics": Argument("TrainingArguments", note="use `include_for_metrics=['inputs']`"),
    "tokenizer": Argument("Trainer", "processing_class", "4.46", renamed=True),
    "max_seq_length": Argument(
        "SFTTrainer", note="it belongs to `SFTConfig` from trl 0.13 on, and is `max_length` there from trl 0.16 on"
    ),
    "dataset_text_field": Argument("SFTTrainer", note="it belongs to `SFTConfig` from trl 0.13 on"),
    "num_items_in_batch": Argument(
        "compute_loss", note="add `num_items_in_batch=None` (or `**kwargs`) to your `compute_loss`"
    ),
    "dtype": Argument(
        "", note="this release, or this model's own code, knows `torch_dtype` only (dtype came with 4.56)"
    ),
    "load_in_8bit": Argument("", note="use `quantization_config=BitsAndBytesConfig(load_in_8bit=True)`"),
    "load_in_4bit": Argument("", note="use `quantization_config=BitsAndBytesConfig(load_in_4bit=True)`"),
    "use_auth_token": Argument("", note="it is called `token`"),
}
"""Read from the wheels of transformers 4.18 to 5.23 and trl 0.9 to 0.24: the arguments of TrainingArguments were
dropped by 4.51 (evaluation_strategy), 5.2 (group_by_length), 5.15 (warmup_ratio, logging_dir) and 5.0 (the others),
those of models by 5.0, and Trainer takes `tokenizer`, with a warning, until 5.0. Tried on 4.57.6 and 5.23.0, but for
trl, which was only read."""
_NEWER = {known.new: (old, known) for old, known in ARGUMENTS.items() if known.renamed and known.since}


OWN = re.compile(r"[/\\](?:transformers|trl|sentence_transformers|setfit)[/\\]")


class RenamedArgument(Rule):
    """A keyword argument that this release renamed, removed, or does not have yet.

    *What it means*
    The call gives an argument that the class of the installed release does not take.

    *Why it happens*
    Transformers 4.46 to 5 renamed and dropped arguments: `evaluation_strategy` is `eval_strategy`, the Trainer's
    `tokenizer` is `processing_class`. In a release that is older than the argument the same message means: too old. Or
    it is misspelt.

    *How tfdiag confirms it*
    The argument and the callable stand in a table read from the releases, or the signature of the callable has a
    parameter much like it.

    *Fixes and their safety*
    `rename-argument` (safe: the same setting under its new name, or under the one that alone is near) edits the call
    where it stands.

    *Example*
    `TrainingArguments("out", evaluation_strategy="epoch")`.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "API001"
    name = "renamed-argument"
    raised = ("builtins.TypeError",)
    message = UNEXPECTED
    needs = (PackageVersionsProbe, CallableSignatureProbe)
    fixes = (Offer("rename-argument", Applicability.SAFE),)
    CASES = (
        Match(
            text="TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'evaluation_strategy'",
            certainty=Certainty.LIKELY,
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            fixes=("rename-argument",),
        ),
        Match(
            text="TypeError: MyTrainer.compute_loss() got an unexpected keyword argument 'num_items_in_batch'",
            title="compute_loss",
        ),
        Match(
            failure=Failure.from_text(
                "TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'eval_strategy'",
                versions={"transformers": "4.38.2"},
            ),
            title="`eval_strategy` of TrainingArguments came with transformers 4.41.*: write `evaluation_strategy`",
            fixes=("rename-argument",),
        ),
        NoMatch(text="TypeError: TrainingArguments.__init__() got an unexpected keyword argument 'learning_rat'"),
        NoMatch(text="TypeError: fitness() got an unexpected keyword argument 'learning_rate'"),
        NoMatch(text="TypeError: Lexer.__init__() got an unexpected keyword argument 'tokenizer'"),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments(\n"
                "    'out',\n    evaluation_strategy='epoch',  # each epoch\n    use_cpu=True,\n)",
            ),
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments('out', learning_rat=1e-4, use_cpu=True)  # slowly",
            ),
            title="TrainingArguments has no argument `learning_rat`: did you mean `learning_rate`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
        Reproduce(
            (
                "from transformers import GPT2Config, GPT2LMHeadModel\n"
                "model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))",
                "model.resize_token_embeddings(new_num_token=9)",
            ),
            title="resize_token_embeddings has no argument `new_num_token`: did you mean `new_num_tokens`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        argument, callee, seen = hit["argument"], hit["callee"], evidence[PackageVersionsProbe.name]
        signature = evidence[CallableSignatureProbe.name]
        known, (old, newer) = ARGUMENTS.get(argument), _NEWER.get(argument, ("", None))
        if signature and argument in signature["parameters"]:
            return None  # of another callable of that name
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        version = loaded or failure.versions.get("transformers", "")
        if seen and not loaded:
            return None
        if hit.raised.frames and not failure.stored and not signature and not passes(failure, OWN):
            return None  # another library has a `Trainer`, too
        if known and _belongs(callee, known.owner) and (known.owner or _speaks_of_transformers(failure, callee)):
            return self._renamed(failure, hit, known, seen, signature)
        if newer and _belongs(callee, newer.owner) and older(version, newer.since):
            where = _name(callee, newer.owner)
            return self._found(
                f"`{argument}` of {where} came with transformers {newer.since}, here is {version}: write `{old}`",
                Certainty.CONFIRMED if loaded else Certainty.LIKELY,
                f"`{callee}` was called with `{argument}=`, which this release does not take yet.",
                (*seen.seen, *signature.seen),
                self._rename(failure, argument, old, where),
            )
        if not signature or not signature["nearest"]:
            return None
        where, nearest = _name(callee, ""), signature["nearest"]
        return self._found(
            f"{where} has no argument `{argument}`: did you mean {' or '.join(f'`{name}`' for name in nearest)}?",
            Certainty.CONFIRMED,
            f"`{signature['where']}` takes no `{argument}`.",
            (*seen.seen, *signature.seen),
            self._rename(failure, argument, nearest[0], where) if signature["clear"] else (),
        )

    def _renamed(
        self, failure: Failure, hit: Hit, known: Argument, seen: Evidence, signature: Evidence
    ) -> Diagnosis | None:
        argument, callee = hit["argument"], hit["callee"]
        where = _name(callee, known.owner)
        if known.note:
            title = f"{where} does not take `{argument}`: {known.note}"
        elif not known.new:
            title = f"`{argument}` is gone from {where}: leave it out"
        elif signature and known.new not in signature["parameters"]:
            return None
        else:
            title = f"`{argument}` of {where} is now `{known.new}`"
        fixes = self._rename(failure, argument, known.new, where) if known.renamed else ()
        return self._found(
            title,
            Certainty.CONFIRMED if fixes and signature else Certainty.LIKELY,
            f"`{callee}` was called with `{argument}=`, which it does not take.",
            (*seen.seen, *signature.seen),
            fixes,
        )

    def _found(
        self, title: str, certainty: Certainty, what: str, evidence: tuple[Observation, ...], fixes: tuple[Fix, ...]
    ) -> Diagnosis:
        why = "The code and the installed release are of different times, or the name is misspelt."
        return self.found(title, certainty, what=what, why=why, evidence=evidence, fixes=fixes)

    def _rename(self, failure: Failure, old: str, new: str, where: str) -> tuple[Fix, ...]:
        elsewhere = bool(failure.source) and old not in failure.source
        values = {"old": old, "new": new, "callee": where.split(".")[-1]}
        return (self.offer("rename-argument", f"Write {new}=", "The same setting.", display=elsewhere, **values),)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new, callee = (str(fix.parameters[key]) for key in ("old", "new", "callee"))
        return edit_cells(scene, lambda source: rename_keyword(source, calls_to(callee), old, new))


def _name(callee: str, owner: str) -> str:
    """The callable as titles name it: old Pythons say `__init__` only."""
    return callee.replace(".__init__", "") if callee != "__init__" else owner


def _speaks_of_transformers(failure: Failure, callee: str) -> bool:
    """Whether a model class of that name is a model of Transformers: others are called `…Model`, too."""
    frames = any("transformers" in frame.file for raised in failure.chain for frame in raised.frames)
    return frames or "transformers" in failure.text or "For" in callee


def _belongs(callee: str, owner: str) -> bool:
    """Whether the callable that complains is, by name, the one that the table speaks of or a child of it."""
    kind = callee.replace(".__init__", "")
    if not owner:
        return bool(re.search(r"(?:Model|For[A-Z]\w+)$", kind))
    if owner == "compute_loss":
        return kind.endswith("compute_loss")
    return (callee == "__init__" and owner == "TrainingArguments") or kind.endswith(owner)
