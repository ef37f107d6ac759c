"""Errors of a person's own program that read like a library's: nothing is said of them."""

import linecache

import pytest

import tfdiag_ipython

pytestmark = pytest.mark.hf
pytest.importorskip("torch")
OWN = (
    "import torch, pickle\npickle.loads(b'value,1')",
    "import torch, pickle\npickle.loads(b'<html>')",
    "import transformers\nraise KeyError('Unknown task foo, available tasks are a, b')",
    "import transformers\n'x' in None",
    "import torch\nraise ValueError('loaded state dict has a different number of parameter groups')",
    "import transformers\nraise ValueError(\"Some generation parameters are set in the model config. Generation parameters found: {'a': 3}\")",
    "import transformers\ntry:\n    {}['vocab']\nexcept KeyError:\n    raise ImportError('requires the protobuf library but it was not found')",
    "import torch\ntorch.ones(2).items()",
    "import torch, transformers.modeling_outputs\ntorch.ones(2).loss",
    "raise OSError('Error no file named model.bin found in directory out.')",
    "raise OSError(\"Can't load config for 'x'\")",
    "import torch\nif torch:\n    raise RuntimeError('probability tensor contains either `inf`, `nan` or element < 0')",
    "def look_up(place):\n    raise IndexError('index out of range in self')\nlook_up(5)",
)


@pytest.mark.parametrize("source", OWN)
def test_nothing_is_said(source, monkeypatch):
    monkeypatch.setitem(linecache.cache, "<cell 1>", (len(source), None, source.splitlines(keepends=True), "<cell 1>"))
    with pytest.raises(Exception) as raised:
        exec(compile(source, "<cell 1>", "exec"), {})
    assert tfdiag_ipython.diagnose(raised.value, source=source, namespace={}) == []
