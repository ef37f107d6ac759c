"""Edits of loading calls: the right argument changes, the rest of the cell stays."""

from __future__ import annotations

from tfdiag_ipython.fixes.loading import load_from, load_with_option, pipeline_task

CELL = """\
tokenizer = AutoTokenizer.from_pretrained(folder)  # stays
model = AutoModel.from_pretrained(
    folder,  # the adapter
    num_labels=2,
)
"""


def test_only_the_calls_of_the_class_that_failed_load_from_the_other_place() -> None:
    changed = load_from(CELL, "AutoModel", "out/checkpoint-5")
    assert changed == CELL.replace("    folder,", '    "out/checkpoint-5",')


def test_the_place_may_be_a_keyword() -> None:
    source = "m = AutoModel.from_pretrained(pretrained_model_name_or_path=x, revision='r')\np = pipeline('fill-mask', model=x)\n"
    assert 'path="y", revision' in load_from(source, "AutoModel", "y")
    assert "pipeline('fill-mask', model=\"y\")" in load_from(source, "pipeline", "y")


def test_a_hostile_place_stays_one_string() -> None:
    for place in ('a"); import os; ("', "a\\", "модель\n"):
        changed = load_from("m = AutoModel.from_pretrained(x)", "AutoModel", place)
        namespace: dict[str, object] = {
            "AutoModel": type("A", (), {"from_pretrained": staticmethod(lambda given: given)})
        }
        exec(changed, namespace)
        assert namespace["m"] == place


def test_an_option_is_added_or_replaced() -> None:
    source = "m = AutoModel.from_pretrained(x, trust_remote_code=False)\n"
    assert load_with_option(source, "AutoModel", "trust_remote_code", "True") == source.replace("False", "True")
    assert "x, gguf_file='a'" in load_with_option("AutoModel.from_pretrained(x)", "AutoModel", "gguf_file", "'a'")


def test_only_the_task_that_failed_changes() -> None:
    source = (
        "a = pipeline('fill-mask')\nb = pipeline(task='fill-mask', model=m)\nc = pipeline('other', model='fill-mask')\n"
    )
    changed = pipeline_task(source, "fill-mask", "text-generation")
    assert changed.splitlines() == [
        'a = pipeline("text-generation")',
        'b = pipeline(task="text-generation", model=m)',
        "c = pipeline('other', model='fill-mask')",
    ]
