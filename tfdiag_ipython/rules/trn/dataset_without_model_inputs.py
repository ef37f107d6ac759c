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
from tfdiag_ipython.rules._places import TRANSFORMERS, own
from tfdiag_ipython.rules.pad._examples import TOKENIZER
from tfdiag_ipython.rules.trn._examples import NEEDS, TRAINER
from tfdiag_ipython.rules.trn._trainer_calls import renamed_column, training_arguments, wrap_arguments

INPUTS = ("input_ids", "pixel_values", "input_values", "input_features")
NAMELESS = (
    "import torch\nclass Wrapped(torch.nn.Module):\n"
    "    def __init__(self):\n        super().__init__()\n        self.inner = model\n"
    "    def forward(self, *args, **kwargs):\n        return self.inner(*args, **{'labels': kwargs['labels'], 'input_ids': kwargs['input_ids']})\n"
    "rows = [{'input_ids': [1, 2], 'labels': 1}, {'input_ids': [3, 4], 'labels': 0}]"
)


class DatasetWithoutModelInputs(Rule):
    """No column of the data set is one that the model reads: most often it was not tokenized.

    *What it means*
    Trainer keeps the columns that the model's `forward` names and removes the others. Nothing was left that the model can read.

    *Why it happens*
    The data set still holds text (it was not tokenized, or the tokenized one was not given to Trainer); a column is spelt otherwise than the
    model's argument; or the model's `forward` names no arguments (`*args, **kwargs`), as that of DataParallel.

    *How tfdiag confirms it*
    It takes the live Trainer and holds the columns of its data set against the names in the model's `forward`.

    *Fixes and their safety*
    `rename-input-column` (unsafe) hands the column on by the model's name. `give-inner-model` (unsafe) gives Trainer the model inside
    DataParallel. `keep-all-columns` (unsafe: the model gets every column) sets `remove_unused_columns=False`. `tokenize` is shown only.

    *Example*
    `Trainer(model, args, train_dataset=rows)` where the rows are `{"text": …, "label": …}`.

    *References*
    transformers: `trainer.py`, `Trainer._remove_unused_columns`, `Trainer._prepare_inputs`.
    """

    code = "TRN002"
    name = "dataset-without-model-inputs"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"No columns in the dataset match the model's forward method signature"
        r"(?:: \((?P<signature>[\w, ]*)\)\. The following columns have been ignored: \[(?P<ignored>[^\]\n]{0,300})"
        r"|\. The following columns have been ignored: \[(?P<dropped>[^\]\n]{0,300}))?"
        r"|The batch received was empty, your model won't be able to train on it\.[^:\n]{0,200}(?:: (?P<expected>[\w,]+)\.)?"
        r"|You should supply an encoding or a list of encodings to this method that includes (?P<needed>\w+), but you provided \[(?P<given>[^\]\n]{0,300})"
        r"|(?P<none>You (?:have to specify either|must specify exactly one of) input_ids (?:or|and) inputs_embeds)"
    )
    needs = (TrainerProbe,)
    fixes = (
        Offer("rename-input-column", Applicability.UNSAFE),
        Offer("give-inner-model", Applicability.UNSAFE),
        Offer("keep-all-columns", Applicability.UNSAFE),
        Offer("tokenize", Applicability.DISPLAY_ONLY),
    )
    links = (Link("Preprocess text", "https://huggingface.co/docs/transformers/training"),)
    CASES = (
        Match(
            text="ValueError: No columns in the dataset match the model's forward method signature: (input_ids, attention_mask, labels). The "
            "following columns have been ignored: [sentence, stars]. Please check the dataset and model. You may need to set "
            "`remove_unused_columns=False` in `TrainingArguments`.",
            certainty=Certainty.LIKELY,
            title="The data set has sentence, stars, and the model takes input_ids, attention_mask, labels: is it tokenized",
            fixes=("tokenize",),
        ),
        Match(
            text="ValueError: No columns in the dataset match the model's forward method signature: (inputs, kwargs, label_ids, label). The "
            "following columns have been ignored: [input_ids, attention_mask]. Please check the dataset and model.",
            certainty=Certainty.LIKELY,
            title="The model is wrapped in DataParallel",
        ),
        Match(
            text="ValueError: The batch received was empty, your model won't be able to train on it. Double-check that your training "
            "dataset contains keys expected by the model: pixel_values,labels,label_ids.",
            certainty=Certainty.LIKELY,
            title="No column of the data set is one that the model takes .pixel_values, labels, label_ids.",
        ),
        Match(
            text="ValueError: You should supply an encoding or a list of encodings to this method that includes input_ids, but you provided "
            "['stars']",
            certainty=Certainty.LIKELY,
            title="The rows hold no input_ids, only stars: they were not tokenized",
        ),
        NoMatch(text="ValueError: You have to specify either input_ids or inputs_embeds"),
        NoMatch(text="ValueError: No columns in the dataset match the schema"),
        Reproduce(
            (
                f"{TRAINER}rows = [{{'text': 'a good film', 'stars': 1}}, {{'text': 'film', 'stars': 0}}]",
                "trainer = Trainer(model, arguments, train_dataset=rows)",
                "trainer.train()",
            ),
            title="`rows` is not tokenized: it has text, stars, and BertForSequenceClassification takes input_ids",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(  # the labels are kept, and the model complains
            (
                f"{TRAINER}rows = [{{'text': 'a good film', 'label': 1}}, {{'text': 'film', 'label': 0}}]",
                "Trainer(model, arguments, train_dataset=rows).train()",
            ),
            title="`rows` is not tokenized: it has text, label, and BertForSequenceClassification takes input_ids",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}{TOKENIZER}from transformers import DataCollatorWithPadding\n"
                "tokenizer.pad_token = tokenizer.eos_token\nrows = [{'text': 'a good film', 'label': 1}, {'text': 'film', 'label': 0}]",
                "Trainer(model, arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer)).train()",
            ),
            title="`rows` is not tokenized: it has text, label, and BertForSequenceClassification takes input_ids",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}rows = [{{'input_id': [1, 2], 'labels': 1}}, {{'input_id': [3, 4], 'labels': 0}}]",
                "trainer = Trainer(model, arguments, train_dataset=rows)",
                "trainer.train()",
            ),
            title="`rows` says `input_id` where BertForSequenceClassification takes `input_ids`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-input-column"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}import torch\nparallel = torch.nn.DataParallel(model)\n"
                "rows = [{'input_ids': [1, 2]}, {'input_ids': [3, 4]}]\nrows = [{**row, 'labels': 1} for row in rows]",
                "trainer = Trainer(parallel, arguments, train_dataset=rows)",
                "trainer.train()",
            ),
            title="The model is wrapped in DataParallel, whose forward names no inputs: Trainer removes all columns",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("give-inner-model"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}{NAMELESS}",
                "arguments = TrainingArguments(tempfile.mkdtemp(), max_steps=1, use_cpu=True, report_to=[], save_strategy='no')",
                "trainer = Trainer(Wrapped(), arguments, train_dataset=rows)\ntrainer.train()",
            ),
            title=r"`Wrapped.forward` names no inputs \(\*args, \*\*kwargs\): Trainer removes all columns",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("keep-all-columns"),),
            needs=NEEDS,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[TrainerProbe.name]
        if not seen:
            return None if hit["none"] or own(failure, TRANSFORMERS) else self._told(hit)
        model, parameters, columns, batch = seen["model"], seen["parameters"], seen["columns"], seen["batch"]
        name = f"`{seen['dataset']}`" if seen["dataset"] else "The training data set"
        if seen["wrapper"]:
            return self._wrapped(seen)
        if seen["anything"]:
            note = "Then every column reaches the model."
            return self._found(
                f"`{model}.forward` names no inputs (*args, **kwargs): Trainer removes all columns",
                Certainty.CONFIRMED if seen["removes"] else Certainty.LIKELY,
                seen,
                why="Write the inputs into the signature of `forward`, or keep all columns with remove_unused_columns=False.",
                fixes=(
                    self.offer(
                        "keep-all-columns", "remove_unused_columns=False", note, display="text" in columns.values()
                    ),
                ),
            )
        main = next((one for one in INPUTS if one in parameters), parameters[0])
        if main in (batch or ()) or main in columns:
            return None  # it was there, and something else is wrong
        others = [one for one in columns if one not in parameters]
        near = next((one for one in others if _same(one, main) or guess(one, parameters).names == (main,)), "")
        if near:
            return self._renamed(seen, name, near, main)
        if not columns:
            return self._found(
                f"The rows of {name[0].lower() + name[1:]} hold no `{main}`, which {model} takes",
                Certainty.LIKELY,
                seen,
                why=_why(main),
            )
        listed = ", ".join(list(columns)[:8])
        if "text" in columns.values() and main == "input_ids":
            return self._found(
                f"{name} is not tokenized: it has {listed}, and {model} takes input_ids",
                Certainty.CONFIRMED,
                seen,
                why="Trainer removes text, which no model reads.",
                fixes=(self._tokenize(seen),),
            )
        return self._found(
            f"{name} has no `{main}`, which {model} takes: it has {listed}", Certainty.CONFIRMED, seen, why=_why(main)
        )

    def _wrapped(self, seen: Evidence) -> Diagnosis:
        note = "Trainer spreads a model over several devices by itself."
        return self._found(
            f"The model is wrapped in {seen['wrapper']}, whose forward names no inputs: Trainer removes all columns",
            Certainty.CONFIRMED if seen["removes"] else Certainty.LIKELY,
            seen,
            why=f"Give Trainer the model inside it (`.module`). {note}",
            fixes=(self.offer("give-inner-model", "Give Trainer the model inside", note, trainer=seen["trainer"]),),
        )

    def _renamed(self, seen: Evidence, name: str, old: str, new: str) -> Diagnosis:
        template = renamed_column(seen["dataset_kind"] == "rows", old, new)
        values = {"template": template, "trainer": seen["trainer"], "both": seen["also_evaluated"]}
        return self._found(
            f"{name} says `{old}` where {seen['model']} takes `{new}`",
            Certainty.CONFIRMED,
            seen,
            why="Trainer removes columns that the model's `forward` does not name.",
            fixes=(self.offer("rename-input-column", f"Pass {old} as {new}", "The rows stay as they are.", **values),),
        )

    def _tokenize(self, seen: Evidence) -> Fix:
        text = next(name for name, kind in seen["columns"].items() if kind == "text")
        tokenizer, data = seen["tokenizer"] or "tokenizer", seen["dataset"] or "rows"
        if seen["dataset_kind"] == "table":
            line = f'{data}.map(lambda rows: {tokenizer}(rows["{text}"], truncation=True), batched=True)'
        else:
            line = f'[{{**row, **{tokenizer}(row["{text}"], truncation=True)}} for row in {data}]'
        return self.offer(
            "tokenize", "Tokenize it", f"train_dataset={line}, and a collator that pads (DataCollatorWithPadding)."
        )

    def _told(self, hit: Hit) -> Diagnosis:
        def names(group: str) -> str:
            return ", ".join(name.strip(" '\"") for name in hit[group].split(",")[:6] if name.strip(" '\""))

        signature, ignored = names("signature"), names("ignored") or names("dropped")
        if hit["needed"]:
            given = names("given")
            title = f"The rows hold no {hit['needed']}{f', only {given}' if given else ' and nothing else'}: they were not tokenized"
        elif signature.startswith("inputs, kwargs"):
            title = "The model is wrapped in DataParallel, whose forward names no inputs: Trainer removes all columns"
        elif signature.startswith("args, kwargs"):
            title = "The model's forward names no inputs (*args, **kwargs): Trainer removes all columns"
        elif ignored:
            takes = f"takes {signature}" if signature else "takes none of them"
            title = f"The data set has {ignored}, and the model {takes}: is it tokenized?"
        else:
            takes = f" ({names('expected')})" if hit["expected"] else ""
            title = f"No column of the data set is one that the model takes{takes}: is it tokenized?"
        fixes = (
            self.offer(
                "tokenize", "Tokenize it", "Give Trainer what the tokenizer, or the processor, made of the data."
            ),
        )
        tokens = title.endswith(("tokenized?", "tokenized"))
        return self._found(title, Certainty.LIKELY, Evidence(), why=_why("input_ids"), fixes=fixes if tokens else ())

    def _found(
        self, title: str, certainty: Certainty, seen: Evidence, *, why: str, fixes: tuple[Fix, ...] = ()
    ) -> Diagnosis:
        what = "Trainer keeps the columns that the model's `forward` names; none was left that the model can read."
        return self.found(title, certainty, what=what, why=why, evidence=seen.seen, fixes=fixes)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "keep-all-columns":
            given = {"remove_unused_columns": "False"}
            return edit_cells(scene, lambda source: set_arguments(source, training_arguments(), given), apart=True)
        trainer = str(fix.parameters["trainer"])
        if fix.id == "give-inner-model":
            return edit_cells(scene, lambda source: wrap_arguments(source, trainer, {"model": "{}.module"}), apart=True)
        names = ("train_dataset", "eval_dataset") if fix.parameters["both"] else ("train_dataset",)
        templates = dict.fromkeys(names, str(fix.parameters["template"]))
        return edit_cells(scene, lambda source: wrap_arguments(source, trainer, templates), apart=True)


def _same(column: str, main: str) -> bool:
    """Whether two names differ in the plural, capitals and underscores only."""
    first, second = (re.sub(r"_|s\b", "", name.lower()) for name in (column, main))
    return first == second


def _why(main: str) -> str:
    made = "A tokenizer" if main == "input_ids" else "A processor"
    return f"{made} makes `{main}` of the raw data; give Trainer the data set that it made, with the names of the model's `forward`."
