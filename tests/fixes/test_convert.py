"""The converted weights give TensorFlow's own outputs (stored by tools/make_tf_fixture.py), and nothing of the person's is lost."""

import json
import shutil
from pathlib import Path

import pytest

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Cancelled, Progress
from tfdiag_ipython.fixes.convert import ConvertWeights, pytorch_name
from tfdiag_ipython.testing import PlainHost

DATA = Path(__file__).parent.parent / "data" / "tf"

pytestmark = pytest.mark.hf


@pytest.fixture(params=sorted(path.name for path in DATA.iterdir()))
def folder(request, tmp_path):
    return Path(shutil.copytree(DATA / request.param, tmp_path / request.param))


@pytest.fixture
def classifier(tmp_path):
    return Path(shutil.copytree(DATA / "bert-classifier", tmp_path / "classifier"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def convert(folder):
    plan = ConvertWeights(PlainHost(), str(folder))
    plan.execute(Progress())
    return plan


def test_converted_weights_give_the_outputs_of_tensorflow(folder):
    import torch
    import transformers

    before = names(folder)
    plan = convert(folder)
    expected = json.loads((folder / "expected.json").read_text())
    kind = getattr(transformers, expected["class"])
    model, report = kind.from_pretrained(str(folder), output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        output = model.eval()(torch.tensor(expected["input_ids"]))[0].flatten(1)
    assert torch.allclose(output, torch.tensor(expected["output"]), rtol=0, atol=1e-4)
    plan.undo()
    assert names(folder) == before


def test_the_preview_says_what_will_be_written_and_writes_nothing(classifier):
    before = names(classifier)
    preview = ConvertWeights(PlainHost(), str(classifier)).preview()
    assert str(classifier / "model.safetensors") in preview.text and "25 tensors" in preview.text
    assert names(classifier) == before


def test_a_file_that_is_there_already_is_never_overwritten(classifier):
    target = classifier / "model.safetensors"
    plan = ConvertWeights(PlainHost(), str(classifier))
    target.write_text("mine")
    with pytest.raises(PlanError, match="exists already"):
        plan.execute(Progress())
    with pytest.raises(PlanError, match="exists already"):
        ConvertWeights(PlainHost(), str(classifier))
    assert target.read_text() == "mine"


def test_undo_leaves_a_file_alone_that_was_changed_since(classifier):
    plan = convert(classifier)
    target = classifier / "model.safetensors"
    target.write_text("trained further")
    with pytest.raises(PlanError, match="changed after"):
        plan.undo()
    assert target.read_text() == "trained further"


def test_a_cancelled_conversion_leaves_nothing_behind(classifier):
    before = names(classifier)
    plan = ConvertWeights(PlainHost(), str(classifier))
    progress = Progress(lambda text, fraction: progress.cancel() if fraction and fraction > 0.5 else None)
    with pytest.raises(Cancelled):
        plan.execute(progress)
    assert names(classifier) == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"num_labels": 7, "id2label": {str(n): str(n) for n in range(7)}},
            r"classifier\.weight \(\[3, 8\] in the file, \[7, 8\]",
        ),
        ({"num_hidden_layers": 2}, r"encoder\.layer\.1\.\S+ \(not in the file\)"),
        ({"num_hidden_layers": 0}, r"encoder\.layer\.0\.\S+ \(not in the PyTorch model\)"),
        ({"model_type": "t5"}, "cannot convert the architecture 't5'"),
        ({"architectures": None}, "names no PyTorch class"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_their_names(classifier, changes, reason):
    change_config(classifier, **changes)
    before = names(classifier)
    with pytest.raises(PlanError, match=reason):
        ConvertWeights(PlainHost(), str(classifier))
    assert names(classifier) == before


def test_a_truncated_file_and_a_whole_keras_model_are_refused(classifier):
    import h5py

    source = classifier / "tf_model.h5"
    with h5py.File(source, "a") as file:
        file.attrs["model_config"] = "{}"
    with pytest.raises(PlanError, match="whole Keras model"):
        ConvertWeights(PlainHost(), str(classifier))
    source.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(PlanError, match="cannot be read as HDF5"):
        ConvertWeights(PlainHost(), str(classifier))


def test_the_example_of_the_rules_is_laid_out_as_tensorflow_does_it(tmp_path):
    import h5py

    from tfdiag_ipython.rules.tfw._h5_example import save_tensorflow_bert

    save_tensorflow_bert(str(tmp_path))

    def layout(path):
        shapes = {}
        with h5py.File(path) as file:
            # Keras numbers its own empty groups (dropout_37) by what the process made before
            file.visititems(lambda name, thing: shapes.update({name: thing.shape} if hasattr(thing, "shape") else {}))
            return shapes, sorted(file.attrs), list(file["classifier"].attrs["weight_names"])

    assert layout(tmp_path / "tf_model.h5") == layout(DATA / "bert-classifier" / "tf_model.h5")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("bert/tf_bert_model_1/bert/embeddings/LayerNorm/gamma:0", "bert.embeddings.LayerNorm.weight"),
        ("mlm___cls/tf_bert_for_masked_lm/mlm___cls/predictions/bias:0", "cls.predictions.bias"),
        ("transformer/tfgpt2_model/transformer/h_._11/ln_1/beta:0", "transformer.h.11.ln_1.bias"),
    ],
)
def test_names_are_those_of_pytorch(path, name):
    assert pytorch_name(path) == name
