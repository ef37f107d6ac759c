"""The command, run as people run it."""

import json
import subprocess
import sys

import nbformat
import pytest

KNOWN = (
    "ValueError: Unrecognized configuration class <class 'transformers.models.t5.configuration_t5.T5Config'> for this kind of "
    "AutoModel: AutoModelForCausalLM.\nModel type should be one of BartConfig, BertConfig."
)


def tfdiag(*arguments, text=""):
    command = [sys.executable, "-m", "tfdiag_ipython", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_explains_standard_input():
    done = tfdiag("explain", text=KNOWN)
    assert done.returncode == 0
    assert "AutoModelForCausalLM" in done.stdout.splitlines()[0]
    assert "\x1b" not in done.stdout


def test_json_has_a_schema_number(tmp_path):
    file = tmp_path / "error.txt"
    file.write_text(KNOWN)
    done = tfdiag("explain", file, "--format", "json")
    (found,) = json.loads(done.stdout)
    assert done.returncode == 0 and found["code"] == "CFG001" and found["schema"] == 1


def test_unknown_text_is_status_1():
    done = tfdiag("explain", "-", text="ZeroDivisionError: division by zero")
    assert done.returncode == 1 and "knows nothing" in done.stdout


def notebook(tmp_path, *errors):
    cells = []
    for number, text in enumerate(errors, start=1):
        name, _, value = text.partition(": ")
        output = nbformat.v4.new_output(
            "error", ename=name, evalue=value, traceback=[f"\x1b[31m{name}\x1b[0m: {value}"]
        )
        cells.append(nbformat.v4.new_code_cell("load()", execution_count=number + 3, outputs=[output]))
    file = tmp_path / "saved.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    return file


def test_notebook_is_explained_by_cell(tmp_path):
    done = tfdiag("explain", notebook(tmp_path, "ZeroDivisionError: no", KNOWN))
    assert done.returncode == 0
    assert "cell 4: tfdiag knows nothing about ZeroDivisionError." in done.stdout
    assert "Cell 5: " in done.stdout


def test_notebook_is_known_by_its_content(tmp_path):
    text = notebook(tmp_path, KNOWN).read_text()
    (tmp_path / "download.txt").write_text(text)
    for done in (tfdiag("explain", tmp_path / "download.txt"), tfdiag("explain", text=text)):
        assert done.returncode == 0 and done.stdout.startswith("Cell 4: ")


@pytest.mark.parametrize(
    "content", ["", "not json", "{}", '{"cells": 3, "nbformat": 4}', '{"nbformat": 4, "cells": [1]}']
)
def test_corrupt_notebook_is_one_sentence(tmp_path, content):
    file = tmp_path / "bad.ipynb"
    file.write_text(content)
    done = tfdiag("explain", file)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and "bad.ipynb" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "told"),
    [
        (["explain", "no/such/file.txt"], "", "cannot be read"),
        (["explain"], "  \n", "empty"),
        (["explain"], "\x00\x01binary", "not a text file"),
        (["rule", "CFG01"], "", "Did you mean CFG001"),
    ],
)
def test_bad_input_is_status_2_and_one_sentence(arguments, text, told):
    done = tfdiag(*arguments, text=text)
    assert done.returncode == 2 and told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def old_notebook(tmp_path, second="optimizer = AdamW([])  # AdamW"):
    cells = [nbformat.v4.new_code_cell("from transformers import AdamW"), nbformat.v4.new_code_cell(second)]
    cells[1].outputs = [nbformat.v4.new_output("stream", text="AdamW")]
    file = tmp_path / "old.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    return file


def test_migrate_lists_and_changes_nothing(tmp_path):
    file = old_notebook(tmp_path)
    before = file.read_bytes()
    done = tfdiag("migrate", file)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("1 use of what transformers 5 removed or renamed; safe edits for 1 of 1\n")
    assert "cell 1, line 1: `AdamW` is gone since 4.50" in done.stdout
    shown = tfdiag("migrate", file, "--diff")
    assert "+optimizer = AdamW([], eps=1e-6, weight_decay=0.0)  # AdamW" in shown.stdout and shown.returncode == 0
    assert file.read_bytes() == before


def test_migrate_writes_the_file_and_is_done_then(tmp_path):
    file = old_notebook(tmp_path)
    before = file.read_text()
    done = tfdiag("migrate", file, "--write")
    assert done.returncode == 0 and f"Wrote {file}: 1 found, 0 of them to be seen to by hand." in done.stdout
    assert file.read_text() == before.replace("from transformers import", "from torch.optim import").replace(
        "AdamW([])", "AdamW([], eps=1e-6, weight_decay=0.0)"
    )
    again = tfdiag("migrate", file)
    assert again.returncode == 1 and again.stdout.startswith("Nothing that transformers 5")
    assert (
        tfdiag("migrate", file, "--write").stdout
        == f"Left as it is: {file}: 0 found, 0 of them to be seen to by hand.\n"
    )


def test_migrate_changes_a_script_and_names_it(tmp_path):
    file = tmp_path / "train.py"
    file.write_text("from transformers import Trainer\nTrainer(m, tokenizer=t)\n")
    assert "train.py, line 2: `tokenizer` of Trainer is now `processing_class`" in tfdiag("migrate", file).stdout
    tfdiag("migrate", file, "--write")
    assert file.read_text() == "from transformers import Trainer\nTrainer(m, processing_class=t)\n"


def test_migrate_tells_of_cells_that_it_skipped(tmp_path):
    file = old_notebook(tmp_path, "def f(:")
    assert "Skipped, because it is not Python that can be read: cell 2." in tfdiag("migrate", file).stdout
    assert "cell 2 is not Python that can be read" in tfdiag("migrate", file, "--diff").stderr


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("bad.ipynb", "{", "not a notebook"),
        ("bad.txt", "x", "neither a notebook"),
        ("none.ipynb", None, "cannot be read"),
        ("big.py", "#" * 500_001, "more than 500,000 characters"),
    ],
)
def test_migrate_says_bad_input_in_one_sentence(tmp_path, name, content, told):
    if content is not None:
        (tmp_path / name).write_text(content)
    for option in ([], ["--write"]):
        done = tfdiag("migrate", tmp_path / name, *option)
        assert done.returncode == 2 and done.stdout == "" and told in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_rules_and_rule_page():
    assert "CFG001  unrecognized-configuration-class" in tfdiag("rules").stdout
    page = tfdiag("rule", "cfg001").stdout
    assert page.startswith("# CFG001") and "## Fixes and their safety" in page


def test_broken_pipe_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m tfdiag_ipython rules | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""
