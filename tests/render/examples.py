"""Diagnoses and strings for the views' tests."""

from __future__ import annotations

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link, Observation

DIAGNOSIS = Diagnosis(
    code="IDX001",
    name="label-out-of-range",
    title="labels hold 5, but the head has num_labels = 3: valid labels are 0 to 2",
    certainty=Certainty.CONFIRMED,
    what="The loss looks each label up in a row of `num_labels` scores.",
    why="The data set has more classes than the model was made for.",
    evidence=(Observation("largest label", "5", "frame `train_step`, cell 12"),),
    unseen=("the tokenizer is gone",),
    fixes=(
        Fix("head", "Set num_labels to 6", Applicability.UNSAFE, "The head gets another size."),
        Fix("free", "Free memory", Applicability.SAFE),
        Fix("hand", "Check the labels", Applicability.DISPLAY_ONLY),
    ),
    links=(Link("Training", "https://example.org/training"),),
)
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>`<b>`",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x1b]0;title\x07\x1b[2J\x9b1m\x7f",
    "\u202eevil\u2066\u200b\r\x08",
    "A" * 1_000_000,
    "\n" * 100_000 + "late",
)
