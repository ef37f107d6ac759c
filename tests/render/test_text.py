"""What a person reads in a terminal."""

from __future__ import annotations

import dataclasses

import pytest

from tests.render.examples import DIAGNOSIS, HOSTILE
from tfdiag_ipython.diagnosis import Applicability, Certainty, Observation, Status, Verification
from tfdiag_ipython.render.text import EVIDENCE_SHOWN, render_text, render_verification


def test_the_first_line_is_the_answer():
    assert render_text([DIAGNOSIS], width=200).splitlines()[0] == DIAGNOSIS.title


def test_certainty_evidence_sources_and_safety_are_told_without_colour():
    told = render_text([DIAGNOSIS], width=200)
    assert "● confirmed · IDX001" in told
    assert "largest label  5  (frame `train_step`, cell 12)" in told
    assert "not looked at: the tokenizer is gone" in told
    assert "[unsafe] Set num_labels to 6. The head gets another size." in told
    assert "[display-only] Check the labels" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_line_is_wider_than_the_terminal(width):
    long = dataclasses.replace(
        DIAGNOSIS, title="x" * 250, why="y" * 900, evidence=(Observation("z" * 90, "v" * 290, "/p" * 80),), links=()
    )
    told = render_text([long, DIAGNOSIS, DIAGNOSIS], width=width)
    assert max(map(len, told.splitlines())) <= width
    assert told.count("v") > 280


def test_others_have_one_line_each_and_a_fourth_is_not_shown():
    others = [dataclasses.replace(DIAGNOSIS, code=f"OTH00{n}", certainty=Certainty.POSSIBLE) for n in range(1, 4)]
    told = render_text([DIAGNOSIS, *others])
    assert sum("OTH00" in row for row in told.splitlines()) == 2 and "OTH003" not in told
    assert told.count("Evidence") == 1


def test_long_evidence_is_cut_and_says_so():
    many = dataclasses.replace(DIAGNOSIS, evidence=DIAGNOSIS.evidence * 30)
    told = render_text([many])
    assert told.count("largest label") == EVIDENCE_SHOWN and f"and {30 - EVIDENCE_SHOWN} more" in told


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_of_the_program_cannot_drive_the_terminal(hostile):
    broken = dataclasses.replace(
        DIAGNOSIS, title=hostile, what=hostile, evidence=(Observation(hostile, hostile, hostile),), unseen=(hostile,)
    )
    told = render_text([broken, broken])
    assert not any(ord(sign) < 32 and sign != "\n" for sign in told)
    assert not set("\u202e\u2066\u200b\x7f\x9b") & set(told)
    assert len(told) < 10_000


def test_colour_is_only_decoration():
    import re

    assert re.sub(r"\x1b\[\d*m", "", render_text([DIAGNOSIS], color=True)) == render_text([DIAGNOSIS])


def test_nothing_known_is_no_text():
    assert render_text([]) == ""


@pytest.mark.parametrize("status", list(Status))
def test_every_outcome_is_told_in_words(status):
    told = render_verification("Edited cell 3.", Verification(status, "Cell 3 ran."))
    first, second = told.splitlines()
    assert first.endswith("Cell 3 ran.") and first[2:].split(":")[0].isascii() and second.strip() == "Edited cell 3."


def test_examples_are_what_they_say():
    assert {fix.applicability for fix in DIAGNOSIS.fixes} == set(Applicability)


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, "░" * 10), (0.01, "▒" + "░" * 9), (0.5, "█" * 5 + "░" * 5), (7, "█" * 10)]
)
def test_a_share_is_drawn_as_a_bar_before_its_number(share, drawn):
    seen = dataclasses.replace(DIAGNOSIS, evidence=(Observation("weights", "3 GiB", "`model`", share=share),))
    assert f"weights  {drawn} 3 GiB  (`model`)" in render_text([seen], width=200)
