from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Certainty, Diagnosis, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.trainer import TrainerProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Reproduce, Rule
from tfdiag_ipython.rules._places import own
from tfdiag_ipython.rules.trn._examples import TRAINER

_DATASETS = re.compile(r"datasets[/\\](?:arrow_dataset|formatting)")
_TRAINER = re.compile(r"transformers[/\\]trainer\.py")


class RowBeyondDataset(Rule):
    """A row was asked of a `datasets.Dataset` that has fewer: most often one without columns, which counts as empty.

    *What it means*
    The data set that is read has fewer rows than the number that was asked for. Without columns it has none.

    *Why it happens*
    Of size 0: Trainer removed all columns, because the model's `forward` names none of them (the data set was not tokenized, or the function
    given to `map` returned nothing); or a filter left no row. Of another size: the index comes from another data set.

    *How tfdiag confirms it*
    The message tells the row and the size; the live Trainer shows the columns of its data set and the names in the model's `forward`.

    *Fixes and their safety*
    None is carried out: the data set has to be made anew.

    *Example*
    `Dataset.from_dict({"text": ["a"]}).remove_columns("text")[0]`

    *References*
    datasets: `formatting/formatting.py`, `_check_valid_index_key`.
    """

    code = "DAT003"
    name = "row-beyond-dataset"
    raised = ("builtins.IndexError",)
    message = re.compile(
        r"Invalid key: (?P<key>-?\d{1,12}) is out of bounds for size (?P<size>\d{1,12})"
        r"|Index (?P<index>-?\d{1,12}) out of range for dataset of size (?P<total>\d{1,12})"
    )
    needs = (TrainerProbe,)
    links = (Link("Process a data set", "https://huggingface.co/docs/datasets/process"),)
    CASES = (
        Match(
            text="IndexError: Invalid key: 3 is out of bounds for size 0",
            certainty=Certainty.LIKELY,
            title="Row 3 was asked of a data set without rows: all its columns were removed, or it is empty",
        ),
        Match(
            text="IndexError: Index 9 out of range for dataset of size 8.",
            certainty=Certainty.LIKELY,
            title=r"Row 9 was asked of a data set with 8 rows \(0 to 7\)",
        ),
        Match(
            failure=Failure.from_text("IndexError: Invalid key: 3 is out of bounds for size 0"),
            evidence={
                "trainer": {
                    "model": "BertForMaskedLM",
                    "dataset": "train",
                    "columns": {"text": "text", "stars": "integer"},
                    "parameters": ("input_ids", "labels"),
                    "removes": True,
                }
            },
            certainty=Certainty.CONFIRMED,
            title="Trainer removed all columns of `train` .text, stars.: BertForMaskedLM takes none of them",
        ),
        NoMatch(text="IndexError: Invalid key: name is not a string"),
        NoMatch(text="IndexError: list index out of range"),
        Reproduce(
            (
                "from datasets import Dataset\nrows = Dataset.from_dict({'text': ['a', 'b']}).remove_columns('text')",
                "first = rows[0]",
            ),
            title="Row 0 was asked of a data set without rows",
            needs=("datasets",),
        ),
        Reproduce(
            (
                f"{TRAINER}from datasets import Dataset\nrows = Dataset.from_dict({{'text': ['a', 'b']}})",
                "third = rows[2]",
            ),
            title=r"Row 2 was asked of a data set with 2 rows \(0 to 1\)",
            certainty=Certainty.CONFIRMED,
            needs=("datasets", "torch", "transformers", "accelerate"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[TrainerProbe.name]
        if own(failure, _DATASETS):
            return None
        row, size = int(hit["key"] or hit["index"]), int(hit["size"] or hit["total"])
        certainty = Certainty.LIKELY if failure.stored else Certainty.CONFIRMED
        if size:
            rows = "1 row (0)" if size == 1 else f"{size:,} rows (0 to {size - 1:,})"
            why = "The index comes from elsewhere: a longer data set, a sampler made before a filter, or a count that starts at 1."
            return self._found(f"Row {row:,} was asked of a data set with {rows}", certainty, seen, why)
        why = (
            "Trainer removes columns that the model's `forward` does not name, and without columns there are no rows. Let the function given to "
            "`map` return what the tokenizer made (input_ids, attention_mask) and the labels; look at `len(dataset)` and `dataset.column_names`."
        )
        if seen and seen["removes"] and seen["columns"] and not set(seen["columns"]) & set(seen["parameters"]):
            name = f"`{seen['dataset']}`" if seen["dataset"] else "the data set"
            listed = ", ".join(list(seen["columns"])[:6])
            title = f"Trainer removed all columns of {name} ({listed}): {seen['model']} takes none of them"
            return self._found(title, certainty, seen, why)
        trainer = seen or failure.says(_TRAINER)
        title = f"Row {row:,} was asked of a data set without rows: {'Trainer removed all its columns' if trainer else 'all its columns were removed'}, or it is empty"
        return self._found(title, Certainty.LIKELY, seen, why)

    def _found(self, title: str, certainty: Certainty, seen: Evidence, why: str) -> Diagnosis:
        what = "The data set that is read has fewer rows than the one that was counted."
        return self.found(title, certainty, what=what, why=why, evidence=seen.seen)
