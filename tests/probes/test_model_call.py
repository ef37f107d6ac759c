"""Whose input a model's call lacks: pictures are no token ids, a handed-on call tells nothing, and a name counts in its own scope."""

import pytest

from tfdiag_ipython.engine import Engine
from tfdiag_ipython.probes.model_call import ModelCallProbe
from tfdiag_ipython.registry import load_registry
from tfdiag_ipython.rules.tok._examples import BERT
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
pytest.importorskip("torch")
pytest.importorskip("transformers")

VIT = """
import numpy, torch
from transformers import ViTConfig, ViTForImageClassification
small = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4)
model = ViTForImageClassification(ViTConfig(**small)).eval()
"""
HANDED_ON = """
import torch
class Handed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = model
    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)
handed = Handed()
batch = tokenizer(['a film'], return_tensors='pt')
"""


def fails(*cells):
    host = PlainHost()
    for source in cells:
        result = host.add(source)
    assert result.failure is not None
    return result.failure, host.scene()


@pytest.mark.parametrize("given", ["'cat.jpg'", "[torch.zeros(3, 8, 8)]", "numpy.zeros((1, 3, 8, 8), dtype='float32')"])
def test_a_picture_is_taken_for_no_text(given):
    failure, scene = fails(VIT, f"model({given})")
    codes = {found.code for found in Engine(load_registry()).diagnose(failure, scene)}
    assert not codes & {"TOK002", "TOK003", "TOK004"}


def test_what_is_handed_on_with_a_star_has_no_name():
    seen = ModelCallProbe().look(*fails(BERT + HANDED_ON, "handed(batch)"))
    assert seen["kind"] == "BatchEncoding"
    assert (seen["variable"], seen["called"]) == ("", "")


def test_a_parameter_is_not_followed_to_the_notebooks_name():
    run = "def run(batch):\n    return model(**batch)\nrun({'input_ids': [[2, 3]]})"
    seen = ModelCallProbe().look(*fails(BERT + "batch = tokenizer(['a film'])", run))
    assert (seen["variable"], seen["tokenizer"]) == ("batch", "")


def test_a_functions_own_name_is_not_the_notebooks():
    prepare = "def prepare():\n    batch = tokenizer(['a film'])\n    return batch\nbatch = {'input_ids': [[2, 3]]}"
    seen = ModelCallProbe().look(*fails(BERT + prepare, "model(**batch)"))
    assert (seen["variable"], seen["tokenizer"]) == ("batch", "")
