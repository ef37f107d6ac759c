from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import calls_to, rename_keyword
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import older

ARGUMENTS = {
    "evaluation_strategy": ("TrainingArguments", "eval_strategy", "4.41"),
    "no_cuda": ("TrainingArguments", "use_cpu", ""),
    "per_gpu_train_batch_size": ("TrainingArguments", "per_device_train_batch_size", ""),
    "per_gpu_eval_batch_size": ("TrainingArguments", "per_device_eval_batch_size", ""),
    "warmup_ratio": ("TrainingArguments", "warmup_steps", ""),
    "overwrite_output_dir": ("TrainingArguments", "", ""),
    "save_safetensors": ("TrainingArguments", "", ""),
    "group_by_length": ("TrainingArguments", "", ""),
    "adafactor": ("TrainingArguments", "", ""),
    "logging_dir": ("TrainingArguments", "", ""),
    "include_inputs_for_metrics": ("TrainingArguments", "", ""),
    "tokenizer": ("Trainer", "processing_class", "4.46"),
    "max_seq_length": ("SFTTrainer", "", ""),
    "dataset_text_field": ("SFTTrainer", "", ""),
    "num_items_in_batch": ("compute_loss", "", ""),
    "dtype": ("", "torch_dtype", ""),
    "load_in_8bit": ("", "", ""),
    "load_in_4bit": ("", "", ""),
    "use_auth_token": ("", "token", ""),
}
"""Argument → the callable that lost it (empty: models), its new name (empty: none), the release that has the new name."""
_NOTES = {
    "num_items_in_batch": "add `num_items_in_batch=None` (or `**kwargs`) to your `compute_loss`",
    "max_seq_length": "it belongs to `SFTConfig` now, as `max_length`",
    "dataset_text_field": "it belongs to `SFTConfig` now",
    "logging_dir": "set the variable TENSORBOARD_LOGGING_DIR",
    "include_inputs_for_metrics": "use `include_for_metrics=['inputs']`",
    "adafactor": "use `optim='adafactor'`",
    "dtype": "this release, or this model's own code, knows `torch_dtype` only (dtype came with 4.56)",
    "load_in_8bit": "use `quantization_config=BitsAndBytesConfig(load_in_8bit=True)`",
    "load_in_4bit": "use `quantization_config=BitsAndBytesConfig(load_in_4bit=True)`",
}
_RENAMED_ONLY = (
    "evaluation_strategy",
    "no_cuda",
    "per_gpu_train_batch_size",
    "per_gpu_eval_batch_size",
    "warmup_ratio",
    "tokenizer",
)


class RenamedArgument(Rule):
    """A keyword argument that this release renamed, removed, or does not have yet.

    *What it means*
    The call gives an argument that the class of the installed release does not take.

    *Why it happens*
    Transformers 4.46 to 5 renamed and dropped arguments: `evaluation_strategy` is `eval_strategy`, the Trainer's `tokenizer` is
    `processing_class`. In a release that is older than the argument the same message means: too old.

    *How tfdiag confirms it*
    The argument and the callable stand in a table checked by hand on 4.57 and 5.23, and transformers is loaded in such a release.

    *Fixes and their safety*
    `rename-argument` (safe: the same setting under its new name) edits the call where it stands.

    *Example*
    `TrainingArguments("out", evaluation_strategy="epoch")`.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "API001"
    name = "renamed-argument"
    raised = ("builtins.TypeError",)
    message = re.compile(
        r"(?P<callee>[\w.]+)\(\) got an unexpected keyword argument ['\"]"
        rf"(?P<argument>{'|'.join(ARGUMENTS)})['\"]"
    )
    needs = (PackageVersionsProbe,)
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
        NoMatch(text="TypeError: fitness() got an unexpected keyword argument 'learning_rate'"),
        NoMatch(text="TypeError: Lexer.__init__() got an unexpected keyword argument 'tokenizer'"),
        Reproduce(
            (
                "from transformers import TrainingArguments",
                "arguments = TrainingArguments(\n    'out',\n    evaluation_strategy='epoch',  # each epoch\n    use_cpu=True,\n)",
            ),
            title="`evaluation_strategy` of TrainingArguments is now `eval_strategy`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-argument"),),
            needs=("torch", "transformers", "accelerate"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        argument, callee, seen = hit["argument"], hit["callee"], evidence[PackageVersionsProbe.name]
        owner, new, since = ARGUMENTS[argument]
        if not _belongs(callee, owner) or not (owner or _speaks_of_transformers(failure, callee)):
            return None
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        if seen and not loaded:
            return None
        version = loaded or failure.versions.get("transformers", "")
        where = callee.replace(".__init__", "") if callee != "__init__" else owner
        fixes: tuple[Fix, ...] = ()
        if since and older(version, since):
            title = f"{where} of transformers {version} has no `{argument}` yet: it came with a later release"
        elif argument in _NOTES:
            title = f"{where} does not take `{argument}`: {_NOTES[argument]}"
        elif not new:
            title = f"`{argument}` is gone from {where}: leave it out"
        else:
            title = f"`{argument}` of {where} is now `{new}`"
            if argument in _RENAMED_ONLY:
                elsewhere = bool(failure.source) and argument not in failure.source
                values = {"old": argument, "new": new, "callee": where.split(".")[0]}
                fixes = (
                    self.offer("rename-argument", f"Write {new}=", "The same setting.", display=elsewhere, **values),
                )
        return self.found(
            title,
            Certainty.CONFIRMED if loaded and fixes else Certainty.LIKELY,
            what=f"`{callee}` was called with `{argument}=`, which it does not take.",
            why="The code and the installed release are of different times.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new, callee = (str(fix.parameters[key]) for key in ("old", "new", "callee"))
        return edit_cells(scene, lambda source: rename_keyword(source, calls_to(callee), old, new))


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
