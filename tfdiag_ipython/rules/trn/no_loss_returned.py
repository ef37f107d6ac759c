from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.trainer import TrainerProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.trn._examples import LANGUAGE_MODEL, NEEDS, OWN_MODEL, OWN_ROWS, TRAINER
from tfdiag_ipython.rules.trn._labels import HIDDEN, counts, language_model, says_labels, with_head
from tfdiag_ipython.rules.trn._trainer_calls import renamed_column, set_imported, wrap_arguments


class NoLossReturned(Rule):
    """Trainer got no loss from the model: the batch holds no labels, or the model cannot make a loss of them.

    *What it means*
    A model of Transformers computes its loss only when the batch holds the labels that its `forward` names. Trainer takes that loss.

    *Why it happens*
    The column of labels has another name and was removed as unused, or the function that tokenizes dropped it; a language model's collator
    makes no labels; the model has no head (`BertModel`); or a model of one's own returns no `loss`.

    *How tfdiag confirms it*
    It takes the live Trainer: the names in the model's `forward`, the columns of the data set, and the keys that reached the model.

    *Fixes and their safety*
    `rename-label-column` (unsafe: says that this column is what is learned) hands Trainer the column as `labels`. `collate-language-model`
    (unsafe: sets what is learned) gives it DataCollatorForLanguageModeling. `use-class-with-head` is shown only.

    *Example*
    `Trainer(model, args, train_dataset=rows)` where the rows have `input_ids` and `target`.

    *References*
    transformers: `trainer.py`, `Trainer.compute_loss`; `utils/generic.py`, `find_labels`.
    """

    code = "TRN001"
    name = "no-loss-returned"
    raised = ("builtins.ValueError",)
    message = re.compile(
        r"The model did not return a loss from the inputs, only the following keys: (?P<keys>[\w., ]*?)"
        r"\.(?: For reference, the inputs it received are (?P<inputs>[\w., ]*?)\.(?=\s|\Z)|\s|\Z)"
    )
    needs = (TrainerProbe,)
    fixes = (
        Offer("rename-label-column", Applicability.UNSAFE),
        Offer("collate-language-model", Applicability.UNSAFE),
        Offer("use-class-with-head", Applicability.DISPLAY_ONLY),
    )
    links = (Link("Trainer", "https://huggingface.co/docs/transformers/main_classes/trainer"),)
    CASES = (
        Match(
            text="ValueError: The model did not return a loss from the inputs, only the following keys: logits. For reference, the "
            "inputs it received are input_ids,attention_mask.",
            certainty=Certainty.LIKELY,
            title="The batch holds no labels .it has input_ids, attention_mask.: the model returned no loss",
        ),
        Match(
            text="ValueError: The model did not return a loss from the inputs, only the following keys: last_hidden_state,pooler_output. "
            "For reference, the inputs it received are input_ids,token_type_ids,attention_mask,labels.",
            certainty=Certainty.LIKELY,
            title=r"The model has no head \(it returned last_hidden_state, pooler_output\)",
            fixes=("use-class-with-head",),
        ),
        Match(
            text="ValueError: The model did not return a loss from the inputs, only the following keys: scores. For reference, the inputs "
            "it received are pixel_values,labels.",
            certainty=Certainty.LIKELY,
            title="The model got `labels` and returned scores, but no `loss`",
        ),
        NoMatch(text="ValueError: The model did not return a loss from the estimator"),
        NoMatch(
            text="ValueError: No loss found. You may have forgotten to provide a `loss` argument in the `compile()` method."
        ),
        Reproduce(
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2], 'target': 1}}, {{'input_ids': [3, 4], 'target': 0}}]",
                "trainer = Trainer(model, arguments, train_dataset=rows)  # all",
                "trainer.train()",
            ),
            title="The labels of `rows` stand in `target`, but BertForSequenceClassification takes `labels`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("rename-label-column"),),
            needs=NEEDS,
        ),
        Reproduce(  # another Trainer of the same cell keeps its rows
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2], 'labels': 1}}] * 2\nstars = [{{'input_ids': [1, 2], 'stars_label': 1}}] * 2",
                "first = Trainer(model, arguments, train_dataset=rows)\nsecond = Trainer(model, arguments, train_dataset=stars)\n"
                "second.train()",
            ),
            title="The labels of `stars` stand in `stars_label`",
            fixes=(Try("rename-label-column"),),
            needs=NEEDS,
        ),
        Reproduce(
            (LANGUAGE_MODEL, "trainer = Trainer(model, arguments, train_dataset=rows)", "trainer.train()"),
            title="`rows` has no labels for GPT2LMHeadModel: a language model learns its own input_ids",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("collate-language-model"),),
            needs=NEEDS,
        ),
        Reproduce(  # a head for masked tokens, under an old name
            (
                f"{TRAINER}from transformers import XLMConfig, XLMWithLMHeadModel\n"
                "model = XLMWithLMHeadModel(XLMConfig(vocab_size=9, emb_dim=8, n_layers=1, n_heads=1))\n"
                "rows = [{'input_ids': [3, 4]}, {'input_ids': [5, 6]}]",
                "Trainer(model, arguments, train_dataset=rows).train()",
            ),
            title="`rows` has no labels for XLMWithLMHeadModel: a language model learns the tokens that a collator masks",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(  # nothing says that these numbers are labels
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2], 'stars': 1, 'idx': 7}}, {{'input_ids': [3, 4], 'stars': 0, 'idx': 8}}]",
                "Trainer(model, arguments, train_dataset=rows).train()",
            ),
            title="`rows` has no `labels`, which BertForSequenceClassification takes: they may stand in `stars`",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2], 'text': 'a'}}, {{'input_ids': [3, 4], 'text': 'b'}}]",
                "trainer = Trainer(model, arguments, train_dataset=rows)",
                "trainer.train()",
            ),
            title="`rows` has no column of labels: it has input_ids, text",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2]}}, {{'input_ids': [3, 4]}}]",
                "Trainer(BertModel(model.config), arguments, train_dataset=rows).train()",
            ),
            title="`BertModel` has no head and takes no labels: it returns no loss",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(  # it has a head, and was told other names
            (
                f"{TRAINER}arguments.label_names = ['stars']\nrows = [{{'input_ids': [1, 2], 'stars': 1}}] * 2",
                "Trainer(model, arguments, train_dataset=rows).train()",
            ),
            title=r"Trainer looks for labels called `stars` \(label_names\), but BertForSequenceClassification takes `labels`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch", "transformers>=5", "accelerate"),  # before, forward refuses the column
        ),
        Reproduce(
            (f"{TRAINER}{OWN_ROWS}", "Trainer(model, arguments, train_dataset=reviews).train()"),
            title="The rows of `reviews` arrive without `labels`; it keeps `targets`",
            certainty=Certainty.LIKELY,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(
            (
                f"{TRAINER}{OWN_MODEL}\nrows = [{{'x': [1.0, 2.0], 'label': 1}}, {{'x': [0.5, 2.5], 'label': 0}}]",
                "Trainer(Scorer(), arguments, train_dataset=rows).train()",
            ),
            title="`Scorer.forward` got `labels` and returned scores, but no `loss`",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
        Reproduce(  # the collator's fault, not the data set's
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2], 'labels': 1}}, {{'input_ids': [3, 4], 'labels': 0}}]",
                "import torch\ndef stack(rows):\n    return {'input_ids': torch.tensor([row['input_ids'] for row in rows])}\n"
                "Trainer(model, arguments, train_dataset=rows, data_collator=stack).train()",
            ),
            title="`stack` leaves out `labels`, which `rows` has",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=NEEDS,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[TrainerProbe.name]
        keys = [key.strip() for key in hit["keys"].split(",") if key.strip()]
        if not seen:
            return self._told(keys, hit) if failure.stored else None
        model, batch = seen["model"], seen["batch"] or ()
        wanted = [name for name in seen["labels"] if name in seen["parameters"]]
        missing = [name for name in wanted if name not in batch]
        returned = ", ".join(keys) or "nothing"
        if seen["wrapper"] or seen["anything"]:
            return self._found(self._words(keys, list(batch)), Certainty.LIKELY, seen)
        if "return_loss" in seen["parameters"] and not wanted:
            return self._found(
                f"`{model}` computes a loss only where the batch has return_loss=True",
                Certainty.CONFIRMED,
                seen,
                why="Let the collator add `return_loss`: True to each batch.",
            )
        if not wanted and seen["labels"] and "labels" in seen["parameters"]:
            asked = ", ".join(f"`{name}`" for name in seen["labels"][:3])
            return self._found(
                f"Trainer looks for labels called {asked} (label_names), but {model} takes `labels`",
                Certainty.CONFIRMED,
                seen,
                why="`label_names` are arguments of the model's `forward`, not columns: leave it out, and give the column as `labels`.",
            )
        if not wanted and not seen["own"]:
            return self._headless(seen)
        if not missing or (not wanted and any(says_labels(name) for name in batch)):
            got = ", ".join(f"`{name}`" for name in wanted) or "the batch"
            return self._found(
                f"`{model}.forward` got {got} and returned {returned}, but no `loss`",
                Certainty.CONFIRMED,
                seen,
                why="Compute the loss in `forward` and return it under the key `loss`, or give Trainer a `compute_loss_func`."
                if seen["own"]
                else "This model computes no loss: give Trainer a `compute_loss_func`, or overwrite `compute_loss`.",
            )
        return self._missing(seen, "labels" if "labels" in missing else missing[0], missing)

    def _headless(self, seen: Evidence) -> Diagnosis:
        classes = with_head(seen["heads"])
        label = f"Use {' or '.join(classes)}" if classes else "Use a class with a head"
        return self._found(
            f"`{seen['model']}` has no head and takes no labels: it returns no loss",
            Certainty.CONFIRMED,
            seen,
            why=f"Take the class with the head of your task: {', '.join(classes)}."
            if classes
            else "Take a class with a head.",
            fixes=(self.offer("use-class-with-head", label, _HEAD),),
        )

    def _missing(self, seen: Evidence, label: str, missing: list[str]) -> Diagnosis:
        """The model takes labels, and the batch has none: where they stayed."""
        model, columns, name = seen["model"], seen["columns"], _data(seen)
        certainty = Certainty.LIKELY if seen["own"] else Certainty.CONFIRMED
        takes = " and ".join(f"`{one}`" for one in missing) if "labels" not in missing else "`labels`"
        there = next((one for one in (*missing, "label", "label_ids") if one in columns), "")
        if there:
            return self._found(
                f"`{seen['collator']}` leaves out `{there}`, which {name} has: {model} got no labels",
                certainty,
                seen,
                why=f"Let the collator hand on {takes}, as DataCollatorWithPadding and default_data_collator do.",
            )
        language = language_model(model)
        if language and "labels" in missing:
            mlm = language == "masked"
            told = "learns the tokens that a collator masks" if mlm else "learns its own input_ids"
            return self._found(
                f"{name} has no labels for {model}: a language model {told}",
                certainty,
                seen,
                why=f"DataCollatorForLanguageModeling(tokenizer, mlm={mlm}) makes them of each batch.",
                fixes=self._collate(seen, mlm),
            )
        here = [one for one in columns if one not in seen["parameters"] and says_labels(one)]
        numbers = [one for one in here if columns[one] in ("integer", "float", "list")]
        if len(numbers) == 1:
            return self._found(
                f"The labels of {name} stand in `{numbers[0]}`, but {model} takes {takes}",
                certainty if label == "labels" else Certainty.LIKELY,
                seen,
                why=f"Trainer removes columns that the model's `forward` does not name, and `{numbers[0]}` was one."
                if seen["removes"]
                else "The model looks for its labels by name.",
                fixes=self._rename(seen, numbers[0]) if label == "labels" else (),
            )
        numeric = [one for one in columns if one not in seen["parameters"] and columns[one] in ("integer", "float")]
        here = here or [one for one in numeric if not counts(one)]
        if here:
            listed = " and ".join(f"`{one}`" for one in here[:3])
            text = all(columns[one] == "text" for one in here)
            return self._found(
                f"{name} holds labels as text in {listed}, but {model} takes numbers in {takes}"
                if text
                else f"{name} has no {takes}, which {model} takes: they may stand in {listed}",
                Certainty.LIKELY,
                seen,
                why="Turn them into numbers in a column `labels` (`label2id`), and keep that column when you tokenize.",
            )
        if columns:
            return self._found(
                f"{name} has no column of labels: it has {', '.join(list(columns)[:8])}",
                certainty,
                seen,
                why=f"{model} computes its loss from {takes}. A function that tokenizes must hand the labels on, and `remove_columns` must not "
                "take them away.",
            )
        kept = next((one for one in seen["kept"] if says_labels(one)), "")
        if kept:
            return self._found(
                f"The rows of {name} arrive without {takes}; it keeps `{kept}`: return them in `__getitem__`",
                Certainty.LIKELY,
                seen,
                why=f"`{seen['dataset_class']}.__getitem__` must return a dictionary in which {takes} stands beside the inputs.",
            )
        return self._found(
            f"The batch holds no {takes} (it has {', '.join(seen['batch'] or ())}): {model} returned no loss",
            certainty,
            seen,
        )

    def _rename(self, seen: Evidence, column: str) -> tuple[Fix, ...]:
        template = renamed_column(seen["dataset_kind"] == "rows", column, "labels")
        note = f"Trainer then keeps `{column}` as `labels`. Is it what the model is to learn?"
        values = {"template": template, "trainer": seen["trainer"], "both": seen["also_evaluated"]}
        return (self.offer("rename-label-column", f"Pass {column} as labels", note, **values),)

    def _collate(self, seen: Evidence, mlm: bool) -> tuple[Fix, ...]:
        value = f"DataCollatorForLanguageModeling({seen['tokenizer'] or 'tokenizer'}, mlm={mlm})"
        able = seen["pads"] and (seen["masks"] or not mlm) and not seen["own_collator"] and seen["tokenizer"]
        note = "It pads each batch and copies its tokens to labels; padding is ignored."
        return (
            self.offer(
                "collate-language-model",
                f"data_collator={value}",
                note,
                display=not able,
                value=value,
                trainer=seen["trainer"],
            ),
        )

    def _told(self, keys: list[str], hit: Hit) -> Diagnosis:
        received = [name.strip() for name in hit["inputs"].split(",") if name.strip()]
        fixes: tuple[Fix, ...] = ()
        if keys and set(keys) <= HIDDEN:
            fixes = (self.offer("use-class-with-head", "Use a class with a head", _HEAD),)
        return self._found(self._words(keys, received), Certainty.LIKELY, Evidence(), fixes=fixes)

    def _words(self, keys: list[str], received: list[str]) -> str:
        returned = ", ".join(keys[:4]) or "nothing"
        labels = [name for name in received if "label" in name or name in ("start_positions", "end_positions")]
        if keys and set(keys) <= HIDDEN:
            return (
                f"The model has no head (it returned {returned}), so that it makes no loss: use a class for your task"
            )
        if labels:
            return f"The model got `{labels[0]}` and returned {returned}, but no `loss`"
        has = f" (it has {', '.join(received[:6])})" if received else ""
        return f"The batch holds no labels{has}: the model returned no loss"

    def _found(
        self, title: str, certainty: Certainty, seen: Evidence, *, why: str = "", fixes: tuple[Fix, ...] = ()
    ) -> Diagnosis:
        return self.found(
            title[0].upper() + title[1:],
            certainty,
            what="Trainer takes the loss from the model's output, and there is none.",
            why=why
            or "A model computes its loss when the batch holds the labels that its `forward` names, mostly `labels`. Trainer removes columns of other "
            "names; for a causal language model DataCollatorForLanguageModeling(tokenizer, mlm=False) makes them.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        trainer = str(fix.parameters["trainer"])
        if fix.id == "collate-language-model":
            given = {"data_collator": str(fix.parameters["value"])}
            needs = "transformers.DataCollatorForLanguageModeling"
            return edit_cells(scene, lambda source: set_imported(source, trainer, given, needs))
        names = ("train_dataset", "eval_dataset") if fix.parameters["both"] else ("train_dataset",)
        templates = dict.fromkeys(names, str(fix.parameters["template"]))
        return edit_cells(scene, lambda source: wrap_arguments(source, trainer, templates), apart=True)


_HEAD = "Its head turns hidden states into answers and computes the loss; it starts untrained."


def _data(seen: Evidence) -> str:
    return f"`{seen['dataset']}`" if seen["dataset"] else "the training data set"
