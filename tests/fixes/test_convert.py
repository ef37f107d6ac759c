"""The converted weights give TensorFlow's own outputs (stored by tools/make_tf_fixture.py), and nothing of the person's is lost."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Cancelled, Progress
from tfdiag_ipython.fixes.convert import ConvertWeights
from tfdiag_ipython.fixes.keras_file import pytorch_name, read
from tfdiag_ipython.testing import PlainHost

DATA = Path(__file__).parent.parent / "data" / "tf"
MODELS = Path(os.environ.get("TFDIAG_TF_MODELS", DATA))
"""Another folder of models, if given: `tools/make_tf_fixture.py --all` makes every class of the seven architectures."""

pytestmark = pytest.mark.hf


@pytest.fixture(params=sorted(path.name for path in MODELS.iterdir()))
def folder(request, tmp_path):
    return Path(shutil.copytree(MODELS / request.param, tmp_path / request.param))


@pytest.fixture
def classifier(tmp_path):
    return Path(shutil.copytree(DATA / "bert-ForSequenceClassification", tmp_path / "classifier"))


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
    inputs = {name: torch.tensor(rows) for name, rows in expected["inputs"].items()}
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    assert expected["outputs"]
    for name, rows in expected["outputs"].items():
        assert torch.allclose(outputs[name].flatten(1), torch.tensor(rows), rtol=0, atol=1e-4), name
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
        ({"model_type": "xlnet"}, "cannot convert the architecture 'xlnet'"),
        ({"model_type": None}, "no config.json that names a model type"),
        ({"architectures": None}, "names no PyTorch class"),
        ({"architectures": ["pipeline"]}, "names no PyTorch class"),
        ({"num_attention_heads": 3}, "cannot be built"),
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


def test_the_report_says_what_was_verified(classifier):
    told = ConvertWeights(PlainHost(), str(classifier)).execute(Progress())
    assert "BertForSequenceClassification.from_pretrained loaded it: all 25 tensors equal those of tf_model.h5" in told


def test_weights_of_a_training_that_diverged_are_converted_as_they_are(classifier):
    import h5py

    with h5py.File(classifier / "tf_model.h5", "r+") as file:
        found = []
        file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
        found[0][...] = float("nan")
    convert(classifier)
    assert "model.safetensors" in names(classifier)


def test_a_roberta_with_another_padding_index_is_warned_about_and_the_advice_is_right(tmp_path):
    import torch
    import transformers

    folder = Path(shutil.copytree(DATA / "roberta-ForMaskedLM", tmp_path / "roberta"))
    change_config(folder, pad_token_id=4)
    plan = ConvertWeights(PlainHost(), str(folder))
    warning = "ignored pad_token_id=4, which PyTorch obeys: for TensorFlow's outputs load it with pad_token_id=1"
    assert warning in plan.preview().note
    assert warning in plan.execute(Progress())
    expected = json.loads((folder / "expected.json").read_text())

    def difference(**settings):
        model = transformers.RobertaForMaskedLM.from_pretrained(str(folder), **settings).eval()
        with torch.no_grad():
            logits = model(torch.tensor(expected["inputs"]["input_ids"])).logits
        return float((logits.flatten(1) - torch.tensor(expected["outputs"]["logits"])).abs().max())

    assert difference() > 0.1
    assert difference(pad_token_id=1) < 1e-4


def test_a_conversion_after_which_outputs_differ_is_offered_as_unsafe():
    from tfdiag_ipython.diagnosis import Applicability
    from tfdiag_ipython.probe import Evidence
    from tfdiag_ipython.rules.tfw._convert import offer_conversion
    from tfdiag_ipython.rules.tfw.tensorflow_weights_only import SEEN, TensorFlowWeightsOnly

    def offered(**facts):
        return offer_conversion(TensorFlowWeightsOnly(), Evidence(SEEN | facts))[0]

    assert offered(model_type="roberta", pad_token_id=1).applicability is Applicability.SAFE
    assert offered(model_type="bert", pad_token_id=4).applicability is Applicability.SAFE
    fix = offered(model_type="roberta", pad_token_id=4)
    assert fix.applicability is Applicability.UNSAFE and "load it with pad_token_id=1" in fix.explanation


def test_a_bias_that_tensorflow_never_read_is_not_the_one_converted(tmp_path):
    """TensorFlow's ALBERT has two biases in its head and adds `decoder/bias`; PyTorch has one for both names."""
    from safetensors.numpy import load_file

    folder = tmp_path / "albert"
    folder.mkdir()
    save_albert_head(folder)
    convert(folder)
    assert {tensor.name for tensor in read(folder / "tf_model.h5")} >= {"predictions.bias", "predictions.decoder.bias"}
    saved = load_file(folder / "model.safetensors")
    assert (saved["predictions.bias"] == 2).all() and (saved["predictions.decoder.bias"] == 2).all()


def save_albert_head(folder):
    """A masked language model with 1 in the bias that is never read and 2 in the other, laid out as Keras does it."""
    import h5py
    from transformers import AlbertConfig, AlbertForMaskedLM

    config = AlbertConfig(
        vocab_size=24, embedding_size=6, hidden_size=8, num_attention_heads=2, intermediate_size=12,
        num_hidden_layers=1, max_position_embeddings=16,
    )  # fmt: skip
    config.architectures = ["AlbertForMaskedLM"]
    config.save_pretrained(folder)
    with h5py.File(folder / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = [b"albert", b"predictions"]
        for name, tensor in AlbertForMaskedLM(config).state_dict().items():
            matrix = tensor.dim() == 2 and "embeddings." not in name and name != "predictions.decoder.weight"
            path = name.replace(".", "/").removesuffix("weight") + ("kernel" if matrix else "weight")
            path = path if name.endswith("weight") else name.replace(".", "/")
            array = tensor.numpy().T if matrix else tensor.numpy()
            array = array * 0 + {"predictions.bias": 1, "predictions.decoder.bias": 2}.get(name, array)
            if name != "predictions.decoder.weight":
                file[f"{name.partition('.')[0]}/tf_albert/{path}:0"] = array


def change_file(path, name, change):
    import h5py

    with h5py.File(path, "a") as file:
        dataset = next(found for found in paths(file) if found.endswith(name))
        value = file[dataset][()]
        del file[dataset]
        change(file, dataset, value)


def paths(file):
    found = []
    file.visit(found.append)
    return found


def external(file, dataset, value):
    file.create_dataset(dataset, value.shape, "f4", external=[("secret.bin", 0, value.nbytes)])


def linked(file, dataset, value):
    import h5py

    file[dataset] = h5py.ExternalLink("other.h5", "/secret")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external, "no plain tensor of numbers stored in this file"),
        (linked, r"classifier\.bias \(not in the file\)"),
        (lambda file, dataset, value: file.create_dataset(dataset, data=b"text"), "no plain tensor"),
        (
            lambda file, dataset, value: file.create_dataset(dataset, (2**40,), "f4", chunks=(1024,)),
            r"classifier\.bias \(\[1099511627776\] in the file, \[3\] in the model\)",
        ),
        (
            lambda file, dataset, value: file.create_dataset(dataset + "/deeper/bias:0", data=value),
            "not in the PyTorch",
        ),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence_before_anything_is_written(classifier, change, reason):
    change_file(classifier / "tf_model.h5", "classifier/bias:0", change)
    (classifier.parent / "secret.bin").write_bytes(bytes(64))
    before = names(classifier)
    with pytest.raises(PlanError, match=reason):
        ConvertWeights(PlainHost(), str(classifier))
    assert names(classifier) == before


def test_a_weight_that_stands_twice_with_different_values_is_refused(tmp_path):
    folder = Path(shutil.copytree(DATA / "t5-ForConditionalGeneration", tmp_path / "t5"))
    change_file(
        folder / "tf_model.h5", "decoder/shared/shared/embeddings:0",
        lambda file, dataset, value: file.create_dataset(dataset, data=value + 1),
    )  # fmt: skip
    before = names(folder)
    with pytest.raises(PlanError, match=r"holds `shared\.weight` twice with different values"):
        convert(folder)
    assert names(folder) == before


def test_weights_in_keras_newer_layout_are_refused_by_name(classifier):
    import h5py

    with h5py.File(classifier / "tf_model.h5", "w") as file:
        file["layers/bert/vars/0"] = [1.0]
    with pytest.raises(PlanError, match=r"`\.weights\.h5` layout"):
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

    assert layout(tmp_path / "tf_model.h5") == layout(DATA / "bert-ForSequenceClassification" / "tf_model.h5")


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
