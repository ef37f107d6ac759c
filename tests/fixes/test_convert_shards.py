"""A model that TensorFlow saved in several files (written by transformers 4.57.6 with TensorFlow 2.21) is converted, or refused."""

import json
import shutil
from pathlib import Path

import pytest

from tfdiag_ipython.engine import Engine
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.convert import ConvertWeights
from tfdiag_ipython.fixes.keras_file import INDEX
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.registry import Registry
from tfdiag_ipython.rules.tfw._convert import CONVERT
from tfdiag_ipython.rules.tfw.tensorflow_weights_only import TensorFlowWeightsOnly
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
DATA = Path(__file__).parents[1] / "data" / "tf_shards"
OUTPUTS = {
    "bert": [0.0021055, 0.00397801],
    "gpt2": [-0.06740982, -0.00245031, 0.01986424, 0.05845864, 0.02599603, -0.01431643, 0.03467941, -0.00310343],
}
"""The last logits that TensorFlow itself gave for the tokens 1, 2, 3."""


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(DATA / "bert", tmp_path / "bert"))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_outputs_are_those_of_tensorflow(kind, tmp_path):
    import torch
    import transformers

    folder = Path(shutil.copytree(DATA / kind, tmp_path / kind))
    before = sorted(path.name for path in folder.iterdir())
    plan = ConvertWeights(PlainHost(), str(folder))
    assert f"from {INDEX}" in plan.preview().text
    plan.execute(Progress())
    loader = {"bert": "AutoModelForSequenceClassification", "gpt2": "AutoModelForCausalLM"}[kind]
    model = getattr(transformers, loader).from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, 3]])).logits.flatten()
    torch.testing.assert_close(logits[-len(OUTPUTS[kind]) :], torch.tensor(OUTPUTS[kind]), atol=1e-4, rtol=0)
    plan.undo()
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_conversion_is_offered_for_shards(folder):
    import transformers

    with pytest.raises(OSError) as caught:
        transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    scene = Scene({}, exception=caught.value, live=True)
    found = Engine(Registry([TensorFlowWeightsOnly()])).diagnose(Failure.from_exception(caught.value), scene)[0]
    assert "holds TensorFlow weights only (tf_model-00001-of-00005.h5" in found.title
    assert [fix.id for fix in found.fixes] == [CONVERT]


def test_a_missing_shard_is_named(folder):
    (folder / "tf_model-00002-of-00005.h5").unlink()
    with pytest.raises(PlanError, match=r"names tf_model-00002-of-00005\.h5, which is not there"):
        ConvertWeights(PlainHost(), str(folder))


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": 3}', "[" * 100_000])
def test_a_broken_index_is_refused(folder, index):
    (folder / INDEX).write_text(index)
    with pytest.raises(PlanError, match="cannot be read as an index of shards"):
        ConvertWeights(PlainHost(), str(folder))


def test_an_index_does_not_lead_out_of_the_folder(folder):
    told = json.loads((folder / INDEX).read_text())
    told["weight_map"] = dict.fromkeys(told["weight_map"], "../bert/tf_model-00001-of-00005.h5")
    (folder / INDEX).write_text(json.dumps(told))
    with pytest.raises(PlanError, match="which is not there"):
        ConvertWeights(PlainHost(), str(folder))
