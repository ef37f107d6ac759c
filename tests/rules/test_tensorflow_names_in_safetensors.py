"""A safetensors file that TensorFlow wrote (transformers 4.57.6, TensorFlow 2.21) is told from PyTorch's, in both releases."""

from pathlib import Path

import pytest

from tfdiag_ipython.engine import Engine
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.registry import load_registry
from tfdiag_ipython.watch.library_warnings import LibraryWarnings

pytestmark = pytest.mark.hf
FOLDER = str(Path(__file__).parents[1] / "data" / "tf_safetensors")


def found(failure, exception=None):
    return Engine(load_registry()).diagnose(failure, Scene({}, exception=exception, live=True))[0]


def test_version_5_loads_random_weights_and_it_is_said():
    transformers = pytest.importorskip("transformers", minversion="5")
    watch = LibraryWarnings()
    watch.start()
    transformers.AutoModelForSequenceClassification.from_pretrained(FOLDER)
    diagnosis = next(one for one in map(found, watch.stop(Scene({}))) if one.code == "TFW012")
    assert diagnosis.certainty.value == "confirmed"
    assert "holds a model.safetensors that TensorFlow wrote, 25 of the model's weights were missing" in diagnosis.title


def test_version_4_asks_for_tensorflow_and_the_file_is_not_taken_for_pytorchs():
    transformers = pytest.importorskip("transformers")
    if int(transformers.__version__.split(".")[0]) > 4:
        pytest.skip("transformers 5 does not ask for TensorFlow")
    with pytest.raises(ImportError) as caught:
        transformers.AutoModelForSequenceClassification.from_pretrained(FOLDER)
    diagnosis = found(Failure.from_exception(caught.value), caught.value)
    assert diagnosis.code == "TFW002" and "has TensorFlow weights (model.safetensors" in diagnosis.title
