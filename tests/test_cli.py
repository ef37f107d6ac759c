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


def test_rules_and_rule_page():
    assert "CFG001  unrecognized-configuration-class" in tfdiag("rules").stdout
    page = tfdiag("rule", "cfg001").stdout
    assert page.startswith("# CFG001") and "## Fixes and their safety" in page


def test_broken_pipe_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m tfdiag_ipython rules | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stderr == ""
