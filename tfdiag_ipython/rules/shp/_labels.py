"""Which labels do not fit which scores, and what to do about it, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.rule import Hit
from tfdiag_ipython.sizes import sized

ELSEWHERE = "Labels of tokens belong to a model …ForTokenClassification or …ForMaskedLM with its own collator, one label a text to …ForSequenceClassification."


@dataclass(frozen=True)
class Answer:
    """``method`` makes it fit, written behind the labels or (``of_scores``) the scores; ``problem`` is the problem type to set."""

    title: str
    why: str
    method: str = ""
    of_scores: bool = False
    problem: str = ""


def of_model(seen: Evidence) -> Answer:
    """The labels of a model of Transformers."""
    scores, labels, model = seen["scores"], seen["labels"], seen["model"]
    name = f"`{seen['written']}`" if seen["written"] else "`labels`"
    several = "binary" in seen["loss"]
    if len(scores) == 2:
        rows, classes = scores
        if several and labels in ((rows,), (rows, 1)):
            if seen["kind"].startswith(("float", "bfloat")) and 0 <= seen["largest"] < classes:
                title = f"{name} is {seen['kind']}, which the model takes for several labels a row: one class a row is a whole number"
                method = ".long()" if len(labels) == 1 else ".long().squeeze(1)"
                return Answer(
                    title, "`labels.long()`, where the data set is made.", method, problem="single_label_classification"
                )
            title = f'{name} has one number for each row, and problem_type "multi_label_classification" takes {classes} columns of 0 and 1'
            return Answer(
                title,
                f"Where each row has one class, set `problem_type` to None and give whole numbers below {classes}.",
            )
        if labels == (rows, classes) and seen["largest"] <= 1:
            title = f"{name} has a column for each class ({sized(labels)}), and this loss takes the number of the class"
            return Answer(
                title,
                'One class a row: `labels.argmax(-1)`. Several: floats and problem_type="multi_label_classification".',
            )
        if len(labels) == 2 and labels[1] > 1 and (labels == seen["ids"] or labels[0] == rows):
            title = f"{name} has a label for each token ({sized(labels)}), and {model} takes one for each row ({rows})"
            return Answer(title, ELSEWHERE)
    if len(scores) == 3 and labels == scores[:1]:
        title = f"{name} has a label for each row ({sized(labels)}), and {model} takes one for each token ({sized(scores[:2])})"
        return Answer(title, ELSEWHERE)
    if labels and scores and labels[0] != scores[0]:
        count = f"{labels[0]:,} row{'' if labels[0] == 1 else 's'}"
        return Answer(
            f"{name} has {count}, and the batch has {scores[0]:,}",
            "Labels and inputs must come from the same rows, in one order.",
        )
    title = f"{name} is {sized(labels)}, and the scores of {model} are {sized(scores)}"
    return Answer(title, "Labels are cut and padded with the ids that they belong to, to the same length.")


def of_loss(seen: Evidence) -> Answer:
    """The labels of a loss that the program calls itself."""
    scores, labels = seen["scores"], seen["labels"]
    name = f"`{seen['written']}`" if seen["written"] else "The target"
    written = seen["written"] or "labels"
    if seen["loss"] in ("cross_entropy", "nll_loss"):
        if len(scores) == 3 and labels == scores[:2] and seen["loss"] == "cross_entropy":
            out = seen["scored"] or "scores"
            title = f"`{out}` is {sized(scores)}, and the loss looks for the classes in its dimension 1: write `{out}.transpose(1, 2)`"
            return Answer(
                title,
                "Or flatten both: `scores.view(-1, classes)`, `labels.view(-1)`.",
                ".transpose(1, 2)" if seen["scored"] else "",
                True,
            )
        if len(scores) == 2 and labels == (scores[0], 1):
            title = f"{name} is {sized(labels)}, and the loss takes {scores[0]}: write `{written}.squeeze(1)`"
            return Answer(
                title,
                "A column of a table comes with a dimension of its own.",
                ".squeeze(1)" if seen["written"] else "",
            )
        if labels == scores and len(scores) == 2:
            title = f"{name} has a column for each class ({sized(labels)}), and the loss takes the number of the class"
            return Answer(title, "`labels.argmax(1)` gives it for one class a row; shares of classes must be floats.")
        if len(scores) == 2 and labels and math.prod(labels) != scores[0]:
            title = (
                f"{name} has {math.prod(labels):,} labels ({sized(labels)}), and there are {scores[0]:,} rows of scores"
            )
            return Answer(
                title, "Each row of scores needs one label: look where one of the two was flattened, cut or left over."
            )
    elif labels == scores[:1] and scores[1:] == (1,):
        title = f"{name} is {sized(labels)}, and the scores are {sized(scores)}: write `{written}.unsqueeze(1)`"
        return Answer(
            title, "Or `scores.squeeze(1)`; both must have one shape.", ".unsqueeze(1)" if seen["written"] else ""
        )
    title = f"{name} is {sized(labels)}, and the scores are {sized(scores)}"
    return Answer(
        title, "Their shapes must fit: look where one of the two was flattened, cut or given another dimension."
    )


def told(hit: Hit, *, by_model: bool) -> Answer:
    """What the message says; ``by_model``: the loss was that of a model of Transformers, whose labels are of texts or of tokens."""
    if hit["rows"]:
        rows, labels = int(hit["rows"]), int(hit["labels"])
        title = f"There {'is' if labels == 1 else 'are'} {labels:,} label{'' if labels == 1 else 's'} for {rows:,} rows of scores"
        if not by_model:
            return Answer(
                title, "Each row of scores needs one label: look where one of the two was flattened, cut or left over."
            )
        if rows and labels > rows and labels % rows == 0:
            title += f", {labels // rows:,} for each: labels of tokens, given to a classifier of whole texts"
        elif labels > 1 and rows % labels == 0 and rows // labels > 3:
            title += ": one for each text, where each token needs one"
        return Answer(title, ELSEWHERE)
    if hit["many"]:
        return Answer(
            "The labels have more than one dimension, and the loss takes the number of a class for each row",
            "`labels.squeeze(1)` for a column, `labels.argmax(1)` for a column for each class.",
        )
    target, scores = hit["target"] or hit["given"] or hit["got"], hit["input"] or hit["scores"] or hit["should"]
    one, two = (text.replace(", ", " × ") for text in (target, scores))
    if hit["got"]:
        return Answer(
            f"The labels are {one}, and the loss expects {two}",
            "`cross_entropy` looks for the classes in dimension 1 of the scores.",
        )
    return Answer(
        f"The labels are {one}, and the scores are {two}",
        "Float labels make a classifier of Transformers compute several labels a row: for one class a row give whole numbers.",
    )
