"""What stays in a saved notebook."""

from __future__ import annotations

import dataclasses
import html
import sys
from html.parser import HTMLParser

import pytest

from tests.render.examples import DIAGNOSIS, HOSTILE
from tfdiag_ipython.diagnosis import Link, Observation
from tfdiag_ipython.render.html import inline, render_html

VOID = {"br", "wbr"}


class Reader(HTMLParser):
    """Reads a fragment as a browser does: its elements, their attributes, and the text outside the style."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data


def test_the_answer_comes_first_and_everything_is_told():
    read = Reader(render_html([DIAGNOSIS]))
    assert read.text.strip().splitlines()[0] == DIAGNOSIS.title
    for told in (
        "● confirmed",
        "IDX001",
        "5 (frame train_step, cell 12)",
        "unsafe",
        "safe",
        "display-only",
        "the head",
    ):
        assert told.lower() in read.text.lower()
    assert ("href", "https://example.org/training") in read.attributes


@pytest.mark.parametrize("hostile", HOSTILE)
def test_text_of_the_program_is_only_text(hostile):
    fixes = tuple(dataclasses.replace(fix, label=hostile, explanation=hostile) for fix in DIAGNOSIS.fixes)
    broken = dataclasses.replace(
        DIAGNOSIS,
        title=hostile,
        what=hostile,
        why=hostile,
        evidence=(Observation(hostile, hostile, hostile),),
        unseen=(hostile,),
        fixes=fixes,
        links=(Link(hostile, "javascript:alert(1)"),),
    )
    markup = render_html([broken, broken])
    read, plain = Reader(markup), Reader(render_html([DIAGNOSIS, DIAGNOSIS]))
    assert set(read.tags) <= set(plain.tags) | {"code", "wbr"}
    assert {name for name, _ in read.attributes} == {name for name, _ in plain.attributes}
    assert not any("javascript" in value for _, value in read.attributes)
    assert "49" not in read.text
    assert not any(ord(sign) < 32 and sign != "\n" for sign in read.text)
    assert len(markup) < 40_000


def test_nothing_is_fetched_or_run():
    markup = render_html([DIAGNOSIS])
    assert not {"script", "img", "link", "iframe"} & set(Reader(markup).tags)
    assert "url(" not in markup and "@import" not in markup and "src=" not in markup


def test_a_diagnosis_is_a_few_kilobytes_and_the_same_every_time():
    markup = render_html([DIAGNOSIS] * 3)
    assert len(markup.encode()) < 8_000
    assert markup == render_html([DIAGNOSIS] * 3)


def test_other_diagnoses_are_folded():
    assert Reader(render_html([DIAGNOSIS])).tags.count("details") == 1
    assert Reader(render_html([DIAGNOSIS] * 5)).tags.count("details") == 5


def test_the_direction_follows_the_text():
    hebrew = dataclasses.replace(DIAGNOSIS, title="שגיאה")
    assert 'role="heading" aria-level="3" dir="auto"><strong>שגיאה' in render_html([hebrew])


def test_without_jinja_the_text_is_shown(monkeypatch):
    from tfdiag_ipython.render import html

    monkeypatch.setitem(sys.modules, "jinja2", None)
    html._template.cache_clear()
    markup = render_html([dataclasses.replace(DIAGNOSIS, what=HOSTILE[0])])
    html._template.cache_clear()
    assert markup.startswith("<pre>labels hold 5") and "<script>" not in markup


def test_nothing_known_is_no_markup():
    assert render_html([]) == ""


def test_a_share_is_drawn_in_characters_that_a_screen_reader_passes_by():
    seen = dataclasses.replace(DIAGNOSIS, evidence=(Observation("weights", "3 GiB", share=0.3),))
    read = Reader(render_html([seen]))
    assert "███░░░░░░░ 3 GiB" in read.text
    assert ("aria-hidden", "true") in read.attributes


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("AutoModelForSequenceClassification", ["Auto", "Model", "For", "Sequence", "Classification"]),
        ("bert.embeddings.word_embeddings", ["bert.", "embeddings.", "word_", "embeddings"]),
        ("http://127.0.0.1:43177/acme/tiny-bert", ["http://127.0.0.1:43177/", "acme/", "tiny-", "bert"]),
        ("<a>&amp;" * 5, ["<a>&amp;" * 5]),
        ("x" * 30 + "\x01", ["x" * 30]),
        ("from_pretrained", ["from_pretrained"]),
    ],
)
def test_a_long_word_breaks_between_its_parts_and_keeps_its_text(word, parts):
    markup = inline(f"{word} and `{word}`")
    expected = "<wbr>".join(map(html.escape, parts))
    long = f'<span class="tfdiag-long">{expected}</span>' if len(parts) > 1 else expected
    assert markup == f"{long} and <code>{long}</code>"
    assert Reader(markup).text == f"{''.join(parts)} and {''.join(parts)}"
