from __future__ import annotations

import math
import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own
from tfdiag_ipython.rules.trn._examples import NEEDS
from tfdiag_ipython.rules.trn._trainer_calls import training_arguments

HOW = {"no": "never", "epoch": "each epoch", "steps": "by steps", "best": "at the best"}
IMPORT = "from transformers import TrainingArguments"


class SaveAndEvaluationApart(Rule):
    """The best checkpoint is to be loaded at the end, but checkpoints are saved at other moments than the model is evaluated.

    *What it means*
    With `load_best_model_at_end` every checkpoint needs a measure of how good it is: saving and evaluating go together.

    *Why it happens*
    `save_strategy` is "steps" and `eval_strategy` is "no" unless you say otherwise: one of the two was set alone. Or both go by steps, and
    `save_steps` is no multiple of `eval_steps`.

    *How tfdiag confirms it*
    The message of the live failure tells both values.

    *Fixes and their safety*
    `match-strategies` (unsafe: it evaluates or saves at other moments) sets the argument that makes them match.

    *Example*
    `TrainingArguments("out", eval_strategy="epoch", load_best_model_at_end=True)`: add `save_strategy="epoch"`.

    *References*
    transformers: `training_args.py`, `TrainingArguments.__post_init__`.
    """

    code = "TRN003"
    name = "save-and-evaluation-apart"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"load_best_model_at_end requires the save and eval(?:uation)? strategy to match[^\n]{0,80}?but found\s{0,3}-? ?Evaluation strategy: "
        r"(?:\w{1,30}\.)?(?P<evaluates>\w{1,20})\s{0,3}-? ?Save strategy: (?:\w{1,30}\.)?(?P<saves>\w{1,20})"
        r"|load_best_model_at_end requires the saving steps to be a (?:round )?multiple of the evaluation steps, "
        r"(?:but found (?P<save_steps>[\d.]{1,20}), which is not a (?:round )?multiple of (?P<eval_steps>\d+(?:\.\d+)?)"
        r"|which cannot get guaranteed when mixing ratio and absolute steps for save_steps (?P<save_ratio>[\d.]{1,20}) "
        r"and eval_steps (?P<eval_ratio>\d+(?:\.\d+)?))"
    )
    fixes = (Offer("match-strategies", Applicability.UNSAFE),)
    links = (
        Link(
            "TrainingArguments",
            "https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments",
        ),
    )
    CASES = (
        Match(
            text="ValueError: --load_best_model_at_end requires the save and eval strategy to match, but found\n- Evaluation strategy: "
            "IntervalStrategy.NO\n- Save strategy: IntervalStrategy.STEPS",
            certainty=Certainty.LIKELY,
            title=r"It saves by steps, but never evaluates .eval_strategy=.no..: which checkpoint is best cannot be told",
            fixes=("match-strategies",),
        ),
        Match(
            text='ValueError: --load_best_model_at_end requires the save and eval strategy to match, except when --save_strategy="best", but '
            "found\n- Evaluation strategy: epoch\n- Save strategy: no",
            title="It evaluates each epoch, but never saves .save_strategy=.no..",
        ),
        NoMatch(text="ValueError: --eval_strategy steps requires either non-zero --eval_steps or --logging_steps"),
        NoMatch(text="ValueError: load_best_model_at_end requires a callback"),
        Reproduce(
            (
                IMPORT,
                "arguments = TrainingArguments('out', eval_strategy='epoch', load_best_model_at_end=True, use_cpu=True)  # best",
            ),
            title="It saves by steps, but evaluates each epoch: save_strategy must be .epoch., too",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("match-strategies"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{IMPORT}\noptions = {{'load_best_model_at_end': True, 'eval_strategy': 'steps', 'eval_steps': 200}}",
                "arguments = TrainingArguments('out', use_cpu=True, **options)",
            ),
            title="It saves every 500 steps, but evaluates every 200: save_steps must be a multiple",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("match-strategies"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                IMPORT,
                "arguments = TrainingArguments('out', save_strategy='epoch', load_best_model_at_end=True, use_cpu=True)",
            ),
            title="It saves each epoch, but never evaluates",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("match-strategies"),),
            needs=NEEDS,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        if own(failure, TRANSFORMERS):
            return None
        certainty = Certainty.LIKELY if failure.stored else Certainty.CONFIRMED
        if hit["eval_ratio"]:
            return self._found(
                f"save_steps is {hit['save_ratio']} and eval_steps {hit['eval_ratio']}: give both as a share of the training, or both as numbers",
                certainty,
            )
        if hit["eval_steps"]:
            every, apart = float(hit["save_steps"]), float(hit["eval_steps"])
            whole = every.is_integer() and apart.is_integer() and apart > 0
            new = str(math.ceil(every / apart) * int(apart)) if whole else ""
            near = f", such as {new}" if new else ""
            return self._found(
                f"It saves every {hit['save_steps']} steps, but evaluates every {hit['eval_steps']}: save_steps must be a multiple{near}",
                certainty,
                self._set("save_steps", new) if new else (),
            )
        evaluates, saves = hit["evaluates"].lower(), hit["saves"].lower()
        if evaluates not in HOW or saves not in HOW:
            return None
        if evaluates == "no":
            return self._found(
                f'It saves {HOW[saves]}, but never evaluates (eval_strategy="no"): which checkpoint is best cannot be told',
                certainty,
                self._set("eval_strategy", f'"{saves}"', " Trainer then needs an `eval_dataset`."),
            )
        if saves == "no":
            return self._found(
                f'It evaluates {HOW[evaluates]}, but never saves (save_strategy="no"): there is no checkpoint to load at the end',
                certainty,
                self._set("save_strategy", f'"{evaluates}"'),
            )
        changed, value = ("eval_strategy", saves) if saves == "epoch" else ("save_strategy", evaluates)
        return self._found(
            f'It saves {HOW[saves]}, but evaluates {HOW[evaluates]}: {changed} must be "{value}", too',
            certainty,
            self._set(changed, f'"{value}"'),
        )

    def _set(self, argument: str, value: str, note: str = "") -> tuple[Fix, ...]:
        when = "evaluates" if argument.startswith("eval") else "saves"
        told = f"Training then {when} at other moments.{note}"
        return (self.offer("match-strategies", f"{argument}={value}", told, argument=argument, value=value),)

    def _found(self, title: str, certainty: Certainty, fixes: tuple[Fix, ...] = ()) -> Diagnosis:
        return self.found(
            title,
            certainty,
            what="load_best_model_at_end needs an evaluation for each checkpoint that is saved.",
            why="Let both go by epochs, or both by steps with `save_steps` a multiple of `eval_steps`; or leave load_best_model_at_end out.",
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        given = {str(fix.parameters["argument"]): str(fix.parameters["value"])}
        return edit_cells(
            scene, lambda source: set_arguments(source, training_arguments("load_best_model_at_end"), given), apart=True
        )
