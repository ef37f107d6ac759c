from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import LIBRARY, Failure, Raised
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import is_written, set_arguments, transform
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.collated_rows import CollatedRowsProbe
from tfdiag_ipython.probes.nearest import guess
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.trn._examples import NEEDS, TRAINER
from tfdiag_ipython.rules.trn._trainer_calls import training_arguments

COLLATE = (
    "import torch\ndef collate(rows):\n    longest = max(row['size'] for row in rows)\n"
    "    ids = torch.tensor([row['input_ids'][:longest] for row in rows])\n"
    "    return {'input_ids': ids, 'labels': torch.tensor([row['labels'] for row in rows])}"
)
_TRAINER = re.compile(r"transformers[/\\]trainer\.py")
_FETCH = re.compile(r"torch[/\\]utils[/\\]data[/\\]_utils[/\\]fetch\.py")


class ColumnNotInRows(Rule):
    """A collator, or a function given to `map`, asks the rows for a column that they do not have.

    *What it means*
    The function was called with the rows of the data set, and the column it asks for is not among theirs.

    *Why it happens*
    Trainer removes every column that the model's `forward` does not name, before a collator of one's own sees the rows; or the column is spelt
    otherwise in the data set.

    *How tfdiag confirms it*
    The frames of the DataLoader hold the rows as the data set gave them, and Trainer's wrapper the columns that it keeps.

    *Fixes and their safety*
    `keep-all-columns` (unsafe: what the collator returns must then be all that the model takes) sets `remove_unused_columns=False`.
    `write-column-name` (unsafe) writes the column's name as the data set has it.

    *Example*
    `row["size"]` in a `data_collator` of a Trainer whose model does not take `size`.

    *References*
    transformers: `trainer_utils.py`, `RemoveColumnsCollator`; `TrainingArguments.remove_unused_columns`.
    """

    code = "DAT001"
    name = "column-not-in-rows"
    raised = ("builtins.KeyError",)
    message = re.compile(r"\A['\"](?P<key>[^'\"\n]{1,80})['\"]\Z")
    needs = (CollatedRowsProbe,)
    fixes = (
        Offer("keep-all-columns", Applicability.UNSAFE),
        Offer("write-column-name", Applicability.UNSAFE),
    )
    links = (Link("Trainer", "https://huggingface.co/docs/transformers/main_classes/trainer"),)
    CASES = (
        Match(
            text='Traceback (most recent call last):\n  File "/home/me/tune.py", line 9, in <module>\n    trainer.train()\n'
            '  File "/env/lib/python3.10/site-packages/transformers/trainer.py", line 1872, in _inner_training_loop\n    for step, inputs in x:\n'
            '  File "/env/lib/python3.10/site-packages/torch/utils/data/_utils/fetch.py", line 54, in fetch\n'
            '    return self.collate_fn(data)\n  File "/home/me/tune.py", line 4, in gather\n    speakers = [row["speaker"] for row in rows]\n'
            "KeyError: 'speaker'",
            certainty=Certainty.LIKELY,
            title="`gather` asks for `speaker`, which Trainer removes unless the model's forward names it",
            fixes=("keep-all-columns",),
        ),
        NoMatch(text="KeyError: 'speaker'"),
        NoMatch(
            text='Traceback (most recent call last):\n  File "/home/me/tune.py", line 9, in <module>\n    trainer.train()\n'
            '  File "/env/lib/python3.10/site-packages/transformers/trainer.py", line 1872, in _inner_training_loop\n    self.state["x"]\n'
            "KeyError: 'x'"
        ),
        Reproduce(
            (
                f"{TRAINER}rows = [{{'input_ids': [1, 2], 'labels': 1, 'size': 2}}] * 2",
                COLLATE,
                "arguments = TrainingArguments(tempfile.mkdtemp(), max_steps=1, use_cpu=True, report_to=[], save_strategy='no')",
                "trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collate)\ntrainer.train()",
            ),
            title="`collate` asks for `size`, which Trainer removed: the model's forward does not name it",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("keep-all-columns"),),
            needs=NEEDS,
        ),
        Reproduce(
            (
                "import torch\nrows = [{'ids': [1, 2], 'label': 1}, {'ids': [3, 4], 'label': 0}]",
                "def stack(rows):\n    return torch.tensor([row['lable'] for row in rows])\n"
                "loader = torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=stack)",
                "first = next(iter(loader))",
            ),
            title="`stack` asks for `lable`, but the rows have `label`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-column-name"),),
            needs=("torch",),
        ),
        Reproduce(  # what the collator makes keeps its name, and another dictionary its own
            (
                "import torch\nrows = [{'ids': [1, 2], 'label': 1}, {'ids': [3, 4], 'label': 0}]\nnames = {'labels': 'stars'}",
                "def stack(rows):\n    made = {}\n    made['labels'] = torch.tensor([row['labels'] for row in rows])\n    return made\n"
                "said = names['labels']\nloader = torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=stack)\n"
                "first = next(iter(loader))['labels']",
            ),
            title="`stack` asks for `labels`, but the rows have `label`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("write-column-name"),),
            needs=("torch",),
        ),
        NoMatch(  # the row has it; another dictionary has not
            text='Traceback (most recent call last):\n  File "/home/me/tune.py", line 9, in <module>\n    trainer.train()\n'
            '  File "/env/lib/python3.10/site-packages/transformers/trainer.py", line 1872, in _inner_training_loop\n    for step, inputs in x:\n'
            '  File "/env/lib/python3.10/site-packages/torch/utils/data/_utils/fetch.py", line 54, in fetch\n'
            '    return self.collate_fn(data)\n  File "/home/me/tune.py", line 4, in gather\n    ids = [numbers[row["label"]] for row in rows]\n'
            "KeyError: 'good'"
        ),
        Reproduce(
            (
                "import torch\nrows = [{'ids': [1, 2], 'label': 1}, {'ids': [3, 4], 'label': 0}]",
                "def stack(rows):\n    return torch.tensor([row['stars'] for row in rows])\n"
                "loader = torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=stack)",
                "first = next(iter(loader))",
            ),
            title="`stack` asks for `stars`, which the rows do not have: they have ids, label",
            certainty=Certainty.CONFIRMED,
            bare=True,
            needs=("torch",),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, key = evidence[CollatedRowsProbe.name], hit["key"]
        if not seen:
            return self._told(hit.raised, key)
        asks = f"`{seen['function']}` asks for `{key}`"
        if key in seen["removed"]:
            return self._removed(
                f"{asks}, which Trainer removed: the model's forward does not name it", Certainty.CONFIRMED, seen
            )
        if key in seen["columns"]:
            return None
        near = guess(key, seen["columns"])
        if len(near.names) == 1:
            column = near.names[0]
            fix = self.offer(
                "write-column-name",
                f"Write {column}",
                "It is another column.",
                old=key,
                new=column,
                row=str(seen["row"]),
            )
            if not near.sure and near.slips:
                return self._found(
                    f"{asks}, which the rows do not have: did you mean `{column}`?", Certainty.LIKELY, seen
                )
            return self._found(f"{asks}, but the rows have `{column}`", Certainty.CONFIRMED, seen, fixes=(fix,))
        listed = ", ".join(seen["columns"][:8])
        return self._found(f"{asks}, which the rows do not have: they have {listed}", Certainty.CONFIRMED, seen)

    def _told(self, raised: Raised, key: str) -> Diagnosis | None:
        """Of text alone: the program's own collator, called for a Trainer, asked for the column in its last line."""
        files = [frame.file for frame in raised.frames]
        last = raised.frames[-1] if raised.frames else None
        asks = last is not None and re.search(rf"\[['\"]{re.escape(key)}['\"]\]", last.source) is not None
        if last is None or not asks or LIBRARY.search(last.file):
            return None
        collates = any(_FETCH.search(frame.file) and "collate_fn(" in frame.source for frame in raised.frames)
        if not collates or not any(map(_TRAINER.search, files)):
            return None
        title = f"`{last.function}` asks for `{key}`, which Trainer removes unless the model's forward names it"
        return self._removed(title, Certainty.LIKELY, Evidence())

    def _removed(self, title: str, certainty: Certainty, seen: Evidence) -> Diagnosis:
        note = "The collator must then return only what the model takes."
        fix = self.offer("keep-all-columns", "remove_unused_columns=False", note)
        why = "Trainer takes away what the model cannot be given before the collator is called; remove_unused_columns=False keeps all columns."
        return self._found(title, certainty, seen, why, (fix,))

    def _found(
        self, title: str, certainty: Certainty, seen: Evidence, why: str = "", fixes: tuple[Fix, ...] = ()
    ) -> Diagnosis:
        return self.found(
            title,
            certainty,
            what="The function was given rows without this column.",
            why=why or "Ask for a column that the data set has, or add it there.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "keep-all-columns":
            given = {"remove_unused_columns": "False"}
            return edit_cells(scene, lambda source: set_arguments(source, training_arguments(), given), apart=True)
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        row = str(fix.parameters["row"])
        return edit_cells(scene, lambda source: _asking_for(source, old, new, row))


def _asking_for(source: str, old: str, new: str, row: str) -> str:
    """``row["new"]`` for ``row["old"]`` where it is read; an empty ``row``: of whatever."""
    import libcst as cst

    class Editor(cst.CSTTransformer):
        def visit_AssignTarget(self, node: cst.AssignTarget) -> bool:
            return False  # what it makes keeps its name

        def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> cst.Subscript:
            index = original_node.slice[0].slice if len(original_node.slice) == 1 else None
            value = index.value if isinstance(index, cst.Index) else None
            if not isinstance(value, cst.SimpleString) or value.evaluated_value != old:
                return updated_node
            if row and not is_written(original_node.value, row):
                return updated_node
            written = value.with_changes(value=f"{value.prefix}{value.quote}{new}{value.quote}")
            element = updated_node.slice[0]
            return updated_node.with_changes(slice=[element.with_changes(slice=cst.Index(written))])

    return transform(source, lambda tree: tree.visit(Editor()))
