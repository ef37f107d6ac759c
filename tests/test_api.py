"""The three entrances for programs."""

import json

import nbformat
import pytest

import tfdiag_ipython as tfdiag
from tfdiag_ipython.errors import InputError

MESSAGE = (
    "Unrecognized configuration class <class 'transformers.models.t5.configuration_t5.T5Config'> for this kind of AutoModel: "
    "AutoModelForCausalLM.\nModel type should be one of BartConfig, BertConfig."
)


def test_live_exception_and_its_text_are_the_same_fault():
    live = tfdiag.diagnose(ValueError(MESSAGE))
    stored = tfdiag.diagnose_text(f"ValueError: {MESSAGE}")
    assert live[0].code == stored[0].code == "CFG001"
    assert json.loads(json.dumps(live[0].to_dict()))["schema"] == 1


def test_unknown_failure_is_an_empty_list():
    assert tfdiag.diagnose(ZeroDivisionError("division by zero")) == []
    assert tfdiag.diagnose_text("KeyError: 'name'") == []


@pytest.mark.parametrize("value", [None, "text", 3, ValueError])
def test_what_is_no_exception_is_a_sentence(value):
    with pytest.raises(InputError, match="takes an exception"):
        tfdiag.diagnose(value)


@pytest.mark.parametrize("value", [None, b"bytes", ValueError(MESSAGE)])
def test_what_is_no_text_is_a_sentence(value):
    with pytest.raises(InputError, match="takes text"):
        tfdiag.diagnose_text(value)


class Hostile(ValueError):
    def __init__(self, message):
        self.told = message

    def __str__(self):
        if isinstance(self.told, BaseException):
            raise self.told
        return self.told


@pytest.mark.parametrize(
    "message",
    [
        KeyboardInterrupt(),
        RecursionError(),
        "x" * 100_000_000,
        "<script>alert(1)</script>",
        "\x1b]0;title\x07\x1b[2J",
        "\x00\udcff",
    ],
    ids=["interrupt", "recursion", "huge", "html", "ansi", "control"],
)
def test_hostile_exception_is_survived(message):
    assert isinstance(tfdiag.diagnose(Hostile(message)), list)


def test_notebook_errors_are_diagnosed_by_cell(tmp_path):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue=MESSAGE, traceback=[f"ValueError: {MESSAGE}"])
    cells = [nbformat.v4.new_code_cell("ok"), nbformat.v4.new_code_cell("load()", execution_count=7, outputs=[error])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "saved.ipynb")
    (found,) = tfdiag.diagnose_notebook(tmp_path / "saved.ipynb")
    assert (found.code, found.cell) == ("CFG001", "cell 7")


def test_missing_notebook_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        tfdiag.diagnose_notebook(tmp_path / "none.ipynb")
