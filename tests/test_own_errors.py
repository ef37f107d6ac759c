"""Errors of a person's own program that read like a library's: nothing is said of them."""

import pytest

import tfdiag_ipython

pytestmark = pytest.mark.hf
pytest.importorskip("torch")
OWN = (
    "import torch, pickle\npickle.loads(b'value,1')",
    "import torch, pickle\npickle.loads(b'<html>')",
    "import transformers\nraise KeyError('Unknown task foo, available tasks are a, b')",
    "import transformers\n'x' in None",
)


@pytest.mark.parametrize("source", OWN)
def test_nothing_is_said(source):
    with pytest.raises(Exception) as raised:
        exec(compile(source, "<cell 1>", "exec"), {})
    assert tfdiag_ipython.diagnose(raised.value, source=source, namespace={}) == []
