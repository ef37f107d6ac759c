from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Status, Verification
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan, Progress
from tfdiag_ipython.fixes.cells import EditCells, edit_cells
from tfdiag_ipython.fixes.statements import insert_after_assignment
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.dataset import FOUND, DatasetProbe, observations
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._examples import SETUP
from tfdiag_ipython.rules.idx.target_out_of_range import set_num_labels

LABELS: dict[str, Any] = {
    "column": "labels",
    "kind": "label",
    "limit": 3,
    "origin": "`model.config.num_labels` is 3",
    "count": 2,
    "rows": 2,
    "smallest": 1,
    "largest": 3,
    "checked": 6,
    "matters": True,
    "first": ((2, 3), (5, 3)),
    "odd": (),
}
FACTS: dict[str, Any] = {
    "dataset": "train",
    "model": "model",
    "rows": 6,
    "read": 6,
    "wrong": 2,
    "unread": 0,
    "failed": (),
    "columns": (LABELS,),
    "tokenizer": "",
    "tokenizer_length": 0,
}
LONG = {**LABELS, "column": "input_ids", "kind": "length", "limit": 12, "origin": "`model` has 12 positions"}
ANSWERS = {
    **LABELS,
    "column": "start_positions",
    "kind": "answer",
    "origin": "the loss passes over what is behind the row's end",
}
NOUNS = {
    "label": "label",
    "id": "token id",
    "type": "token type",
    "length": "row that is too long",
    "answer": "answer beyond its row",
}


class DataSetOutOfRange(Rule):
    """Rows of the data set hold labels, ids or lengths that the model has no place for.

    *What it means*
    Training will fail when it comes to such a row: with an IndexError on the CPU, with a device-side assert on a GPU, which says nothing and
    leaves CUDA unusable.

    *Why it happens*
    Labels count from one or the model was made with fewer classes; the tokenizer has more tokens than the embedding has rows; texts were
    tokenized without `truncation=True`.

    *How tfdiag confirms it*
    `%tfdiag probe dataset DATASET MODEL` reads all rows on the CPU and counts what is out of range: labels against `num_labels` (-100 is
    ignored) or the predicted tokens, ids against the rows of the input embedding, token types against `type_vocab_size`, lengths
    against the learned positions (labels that a decoder reads against the decoder's), answers against their row's tokens: most models pass
    over an answer that was cut off, so that only counts where it is most of them. A row that raises is named, and the check goes on. It runs
    on request only.

    *Fixes and their safety*
    `set-num-labels` (unsafe: a new head) and `resize-embeddings` (unsafe: new rows are random) edit the cell that makes the model, and
    are verified by checking all rows again. `shift-labels` and `truncate` are said, not carried out: they change the data set.

    *Example*
    `%tfdiag probe dataset train model`, with three classes and labels 1 to 3.

    *References*
    torch: `nn.functional.cross_entropy`, `nn.Embedding`; transformers: Padding and truncation, `resize_token_embeddings`.
    """

    code = "IDX008"
    name = "data-set-out-of-range"
    kinds = ("check",)
    raised = ("dataset",)
    message = re.compile(re.escape(FOUND))
    fixes = (
        Offer("shift-labels", Applicability.DISPLAY_ONLY),
        Offer("set-num-labels", Applicability.UNSAFE),
        Offer("resize-embeddings", Applicability.UNSAFE),
        Offer("truncate", Applicability.DISPLAY_ONLY),
    )
    links = (Link("Padding and truncation", "https://huggingface.co/docs/transformers/pad_truncation"),)
    CASES = (
        Match(
            failure=Failure.from_finding("dataset", FOUND, FACTS),
            certainty=Certainty.CONFIRMED,
            title=r"`train` holds 2 labels .*first is 3 in row 2.*`model.config.num_labels` is 3",
            fixes=("shift-labels", "set-num-labels"),
        ),
        Match(
            failure=Failure.from_finding("dataset", FOUND, {**FACTS, "columns": (LONG,)}),
            certainty=Certainty.CONFIRMED,
            title="holds 2 rows too long: the first is row 2 with 3 tokens.*12 positions",
            fixes=("truncate",),
        ),
        Match(
            failure=Failure.from_finding("dataset", FOUND, {**FACTS, "columns": ({**ANSWERS, "passes_over": True},)}),
            certainty=Certainty.CONFIRMED,
            title="holds 2 answers beyond the tokens of their rows: the first is 3 in row 2",
        ),
        NoMatch(text=FOUND),
        NoMatch(failure=Failure.from_finding("dataset", "Something else.", {})),
        Reproduce(
            (
                SETUP,
                "train = [{'input_ids': [2, 3], 'labels': n} for n in (0, 4, -100, 2)]",
                "model = BertForSequenceClassification(BertConfig(num_labels=3, **sizes))",
            ),
            probe="dataset train model",
            title=r"holds 1 label .*4 in row 1.*num_labels` is 3",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("set-num-labels"),),
        ),
        Reproduce(
            (
                SETUP,
                "tokenizer = make_tokenizer()\nassert tokenizer.add_tokens(['new']) == 1",
                "train = tokenizer(['a good film', 'a new film'])",
                "model = BertForSequenceClassification(BertConfig(**sizes))",
            ),
            probe="dataset train model",
            title=r"holds 1 token id .*7 in row 1.*7 rows",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("resize-embeddings"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = failure.facts
        wrong = [column for column in seen.get("columns", ()) if column["matters"]]
        if not wrong:
            return None
        column = wrong[0]
        row, value = column["first"][0]
        noun, told = NOUNS[column["kind"]], f"{value:,} in row {row:,}"
        if column["kind"] == "length":
            noun, told = f"row{_s(column)} too long", f"row {row:,} with {value:,} tokens"
        elif column["kind"] == "answer":
            noun = f"answer{_s(column)} beyond the tokens of {'their rows' if column['count'] > 1 else 'its row'}"
        else:
            noun = f"{noun}{_s(column)} out of range"
        more_kinds = sorted({NOUNS[other["kind"]] for other in wrong} - {NOUNS[column["kind"]]})
        others = f"; also {', '.join(more_kinds)}" if more_kinds else ""
        more = "" if seen["read"] == seen["rows"] else f" (of {seen['read']:,} rows read)"
        return self.found(
            f"`{seen['dataset']}` holds {column['count']:,} {noun}{more}: the first is {told}, and "
            f"{column['origin']}{others}",
            Certainty.CONFIRMED,
            what=_what(column, seen),
            why=_why(column),
            evidence=observations(seen),
            fixes=tuple(fix for one in wrong for fix in self._remedies(one, seen)),
        )

    def _remedies(self, column: Mapping[str, Any], seen: Mapping[str, Any]) -> list[Fix]:
        model, dataset = str(seen["model"]), str(seen["dataset"])
        named = {"model": model, "dataset": dataset, "column": column["column"]}
        found: list[Fix] = []
        if column["kind"] == "label" and "num_labels" in column["origin"] and column["smallest"] >= 0:
            if (column["smallest"], column["largest"]) == (1, column["limit"]):
                told = f"Where `{dataset}` is made, subtract one from `{column['column']}` (but leave -100)."
                found.append(self.offer("shift-labels", "Count the labels from 0", told))
            count = column["largest"] + 1
            told = f"Sets `num_labels={count}` where the model is made: its classification head becomes a new one, untrained."
            found.append(
                self.offer(
                    "set-num-labels",
                    f"Make the model with {count:,} classes",
                    told,
                    count=count,
                    has=column["limit"],
                    **named,
                )
            )
        if column["kind"] == "id" and column["limit"] <= column["largest"] < seen["tokenizer_length"]:
            statement = f"{model}.resize_token_embeddings(len({seen['tokenizer']}))"
            told = f"Adds `{statement}` where the model is made. The new rows are random until they are trained."
            label, simple = "Resize the embedding to the tokenizer", model.isidentifier()
            found.append(self.offer("resize-embeddings", label, told, display=not simple, statement=statement, **named))
        if column["kind"] == "length":
            told = f"Pass `truncation=True, max_length={column['limit']}` to the tokenizer where `{dataset}` is made."
            found.append(self.offer("truncate", "Cut the texts to what fits", told))
        return found

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        told = fix.parameters

        def change(source: str) -> str:
            if fix.id == "set-num-labels":
                return set_num_labels(source, int(told["has"]), int(told["count"]))
            return insert_after_assignment(source, str(told["model"]), str(told["statement"]))

        return Rechecked(edit_cells(scene, change, apart=True, fails=False, makes=str(told["model"])), told)


class Rechecked(EditCells):
    """Runs the edited cell and what depends on it, and checks the data set once more."""

    def __init__(self, plan: EditCells, told: Mapping[str, Any]) -> None:
        super().__init__(plan.host, plan.edits, plan.reruns, fails=False)
        self._asked, self._column = f"{told['dataset']} {told['model']}", told["column"]

    def verify(self, progress: Progress) -> Verification:
        ran = super().verify(progress)
        if ran.status is not Status.VERIFIED:
            return ran
        progress.report("Checking all rows again …")
        seen = DatasetProbe().ask(self._asked, Scene(self.host.namespace, live=True, cuda_dead=self.host.cuda_dead))
        if not seen or seen["read"] + seen["unread"] < seen["rows"]:
            return Verification(
                Status.NOT_CHECKED, f"{ran.detail} The rows could not be checked again: {seen.missing}."
            )
        left = sum(one["count"] for one in seen["columns"] if one["column"] == self._column and one["kind"] != "length")
        if left:
            return Verification(
                Status.STILL_FAILING, f"{ran.detail} But {left:,} of `{self._column}` are out of range."
            )
        told = f"all {seen['read']:,} rows of `{self._column}` are in range"
        return Verification(Status.VERIFIED, f"{ran.detail} Checked again: {told}.")


def _s(column: Mapping[str, Any]) -> str:
    return "s" if column["count"] > 1 else ""


def _what(column: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    harm = "on a GPU one of them ends the whole session"
    if column["kind"] == "answer" and column["passes_over"]:
        harm = "the loss learns nothing from them, and says nothing"
    told = f"{seen['wrong']:,} of {seen['read']:,} rows cannot be used as they are; {harm}."
    if seen["unread"]:
        row, why = seen["failed"][0]
        told += f" {seen['unread']:,} more could not be read: the first is row {row:,} ({why})."
    return told


def _why(column: Mapping[str, Any]) -> str:
    if column["kind"] == "label":
        if (column["smallest"], column["largest"]) == (1, column["limit"]):
            return f"The labels run from 1 to {column['largest']}: they count from one."
        if column["smallest"] < 0:
            return "The loss takes no negative label but -100, which it ignores."
        return f"The labels go up to {column['largest']:,}, and {column['origin']}."
    if column["kind"] == "answer":
        return "They count characters instead of tokens, or the rows were cut after the answers were found."
    if column["kind"] == "id":
        return "Tokens were added to the tokenizer, or it belongs to another checkpoint, and the embedding was not resized."
    if column["kind"] == "type":
        return "The tokenizer gives more token types than the model knows: it belongs to another kind of model."
    return f"The longest row has {column['largest']:,} tokens: the texts were tokenized without truncation."
