from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.nearest import guess
from tfdiag_ipython.probes.trainer import TrainerProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import TRANSFORMERS, own, passes
from tfdiag_ipython.rules.trn._examples import NEEDS, TRAINER
from tfdiag_ipython.rules.trn._trainer_calls import training_arguments

_TIMES = re.compile(
    r"(?:^|_)(?:runtime|samples_per_second|steps_per_second|model_preparation_time|jit_compilation_time)$|^epoch$"
)
_PLACE = re.compile(r"transformers[/\\]trainer\.py")
MEASURED = (
    f"{TRAINER}rows = [{{'input_ids': [1, 2], 'labels': 1}}, {{'input_ids': [3, 4], 'labels': 0}}]\n"
    "def measure(prediction):\n    return {'accuracy': 1.0}"
)
ARGUMENTS = (
    "arguments = TrainingArguments(tempfile.mkdtemp(), max_steps=1, use_cpu=True, report_to=[], save_strategy='no', disable_tqdm=True, "
    "eval_strategy='steps', eval_steps=1, metric_for_best_model="
)


class MetricNotEvaluated(Rule):
    """The metric by which the best checkpoint is chosen is not among those that the evaluation gave.

    *What it means*
    `metric_for_best_model` names an entry of what `evaluate` returns, with or without `eval_` in front.

    *Why it happens*
    It is spelt otherwise than in `compute_metrics`; there is no `compute_metrics`; with several evaluation data sets each has its own
    (`eval_<name>_loss`); or the evaluation's batches hold no labels, so that neither loss nor metrics are computed.

    *How tfdiag confirms it*
    The message lists the metrics; the live Trainer shows its `compute_metrics` and its evaluation data.

    *Fixes and their safety*
    `use-measured-metric` (unsafe: another checkpoint may be the best) writes the metric that was measured.

    *Example*
    `TrainingArguments("out", metric_for_best_model="acc")` where `compute_metrics` returns `{"accuracy": …}`.

    *References*
    transformers: `trainer.py`, `Trainer._determine_best_metric`.
    """

    code = "TRN004"
    name = "metric-not-evaluated"
    raised = ("builtins.KeyError",)
    message = re.compile(
        r"metric_for_best_model` training argument is set to \\?'(?P<metric>[\w@/. :\-]{1,80})\\?', which is not found in the evaluation metrics"
        r"(?:\. The available evaluation metrics are: \[(?P<known>[^\]\n]{0,600}))?"
        r"|\A['\"](?P<bare>eval_[\w/\-]{1,60})['\"]\Z"
    )
    needs = (TrainerProbe,)
    fixes = (Offer("use-measured-metric", Applicability.UNSAFE),)
    links = (Link("Trainer", "https://huggingface.co/docs/transformers/main_classes/trainer"),)
    CASES = (
        Match(
            text="KeyError: \"The `metric_for_best_model` training argument is set to 'eval_f1', which is not found in the evaluation "
            "metrics. The available evaluation metrics are: ['eval_loss', 'eval_acc', 'eval_runtime', 'epoch']. Consider changing the "
            '`metric_for_best_model` via the TrainingArguments."',
            certainty=Certainty.LIKELY,
            title="The evaluation measures no `f1`: it has loss, acc",
        ),
        Match(
            text='Traceback (most recent call last):\n  File "/env/site-packages/transformers/trainer.py", line 2405, in _save_checkpoint\n'
            "    metric_value = metrics[metric_to_check]\nKeyError: 'eval_bleu'",
            certainty=Certainty.LIKELY,
            title="The evaluation measures no `bleu`",
        ),
        Match(text="KeyError: 'eval_loss'", certainty=Certainty.POSSIBLE, title="The evaluation gave no loss"),
        NoMatch(text="KeyError: 'eval_split'"),
        NoMatch(
            text='Traceback (most recent call last):\n  File "report.py", line 5, in <module>\n    table["eval_loss"]\n'
            "KeyError: 'eval_loss'"
        ),
        Reproduce(
            (
                MEASURED,
                f"{ARGUMENTS}'acuracy')",
                "trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, compute_metrics=measure)\ntrainer.train()",
            ),
            title="The evaluation measures no `acuracy`, but `accuracy`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-measured-metric"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                MEASURED,
                f"{ARGUMENTS}'f1')",
                "Trainer(model, arguments, train_dataset=rows, eval_dataset=rows).train()",
            ),
            title="Trainer has no compute_metrics, so that it measures no `f1`, only the loss",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-measured-metric"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                MEASURED,
                f"{ARGUMENTS}'loss')",
                "Trainer(model, arguments, train_dataset=rows, eval_dataset={'near': rows, 'far': rows}).train()",
            ),
            title="With several evaluation data sets there is no `loss`, but `near_loss`, `far_loss`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-measured-metric"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{MEASURED}\nunseen = [{{'input_ids': row['input_ids']}} for row in rows]",
                f"{ARGUMENTS}'loss')",
                "Trainer(model, arguments, train_dataset=rows, eval_dataset=unseen).train()",
            ),
            title="The evaluation gave no loss: its data set has no labels, only input_ids",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[TrainerProbe.name]
        if hit["bare"] and not self._of_trainer(failure, hit):
            return None
        last = hit.raised.frames[-1:]
        if hit["bare"] and not failure.stored and not (last and _PLACE.search(last[0].file)):
            return None  # asked for in the person's own function
        if own(failure, TRANSFORMERS):
            return None
        asked = (hit["metric"] or hit["bare"]).removeprefix("eval_")
        listed = [name.strip(" '\"\\") for name in hit["known"].split(",")]
        known = [name.removeprefix("eval_") for name in listed if name and not _TIMES.search(name)]
        live = bool(seen) and not failure.stored
        certainty = Certainty.CONFIRMED if live and hit["metric"] else Certainty.LIKELY
        if hit["bare"] and not _passed(failure):
            certainty = Certainty.POSSIBLE
        several = [name for name in known if name.endswith(f"_{asked}")]
        if several and (not live or seen["splits"]):
            names = ", ".join(f"`{name}`" for name in several[:4])
            title = f"With several evaluation data sets there is no `{asked}`, but {names}"
            return self._found(
                title, certainty, seen, "Each is measured apart: name the one that decides.", self._use(several[0])
            )
        near = guess(asked, known)
        if near.sure or (len(near.names) == 1 and near.slips <= 1):
            title = f"The evaluation measures no `{asked}`, but `{near.names[0]}`"
            return self._found(
                title, certainty, seen, "The names come from `compute_metrics`.", self._use(near.names[0])
            )
        if "loss" not in known and (asked == "loss" or (known == [] and hit["known"])):
            return self._no_labels(seen, certainty, live)
        if live and not seen["measures"]:
            title = f"Trainer has no compute_metrics, so that it measures no `{asked}`, only the loss"
            why = f"Give it a `compute_metrics` that returns {{{asked!r}: …}}, or choose by the loss."
            return self._found(title, certainty, seen, why, self._use("loss") if "loss" in known else ())
        has = f": it has {', '.join(known[:6])}" if known else ""
        why = f"`compute_metrics` must return {{{asked!r}: …}}; without one, only the loss is measured."
        return self._found(f"The evaluation measures no `{asked}`{has}", certainty, seen, why)

    def _no_labels(self, seen: Evidence, certainty: Certainty, live: bool) -> Diagnosis:
        columns = seen["evaluated_columns"] if live else {}
        labels = {*seen["labels"], "label", "label_ids"} if live else set()
        told = ""
        if columns and not labels & set(columns):
            told = f": its data set has no labels, only {', '.join(list(columns)[:6])}"
        elif certainty is Certainty.CONFIRMED:
            certainty = Certainty.LIKELY
        why = "Loss and metrics are computed where the batch holds all labels that the model's `forward` names (`label_names`)."
        return self._found(
            f"The evaluation gave no loss{told or ': its batches hold no labels, or several data sets have one each'}",
            certainty,
            seen,
            why,
        )

    def _of_trainer(self, failure: Failure, hit: Hit) -> bool:
        """Whether a bare key is Trainer's: by the frames, or the name that only Trainer gives where there are none."""
        return _passed(failure) or (failure.stored and not failure.frames and hit["bare"] == "eval_loss")

    def _use(self, metric: str) -> tuple[Fix, ...]:
        note = "Another checkpoint may then be the best. If `greater_is_better` is given, see that it fits."
        return (self.offer("use-measured-metric", f'metric_for_best_model="{metric}"', note, metric=metric),)

    def _found(
        self, title: str, certainty: Certainty, seen: Evidence, why: str, fixes: tuple[Fix, ...] = ()
    ) -> Diagnosis:
        what = "`metric_for_best_model` must be one of the metrics that the evaluation gives."
        return self.found(title, certainty, what=what, why=why, evidence=seen.seen, fixes=fixes)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        given = {"metric_for_best_model": f'"{fix.parameters["metric"]}"'}
        return edit_cells(
            scene, lambda source: set_arguments(source, training_arguments("metric_for_best_model"), given), apart=True
        )


def _passed(failure: Failure) -> bool:
    return passes(failure, _PLACE)
