"""What the index probe finds in the frames of calls that really failed."""

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf
pytest.importorskip("torch")


def look(*cells):
    host = PlainHost()
    for source in ("import torch", *cells):
        host.add(source)
    assert host.exception is not None
    return IndexTensorsProbe().look(Failure.from_exception(host.exception), host.scene())


def test_value_place_and_count_of_the_ids_that_are_out_of_range():
    seen = look("table = torch.nn.Embedding(5, 2)", "ids = torch.tensor([[0, 1, 2], [3, 7, -1]])", "table(ids)")
    assert seen["values"] == {"smallest": -1, "largest": 7, "first": 7, "place": (1, 1), "count": 2, "total": 6}
    assert (seen["limit"], seen["variable"]) == (5, "ids")


def test_ignored_labels_do_not_count():
    labels = "labels = torch.tensor([-100, 0, 4])"
    seen = look(labels, "torch.nn.functional.cross_entropy(torch.zeros(3, 3), labels)")
    assert seen["values"]["smallest"] == 0 and seen["values"]["count"] == 1 and seen["limit"] == 3


def test_a_label_in_a_batch_is_named_by_its_key():
    seen = look(
        "batch = {'labels': torch.tensor([0, 9])}",
        "torch.nn.functional.cross_entropy(torch.zeros(2, 3), batch['labels'].view(-1))",
    )
    assert seen["variable"] == 'batch["labels"]'


def test_a_large_tensor_is_not_read(monkeypatch):
    monkeypatch.setattr("tfdiag_ipython.probes._host_indices.MOST_ELEMENTS", 3)
    seen = look("torch.nn.Embedding(5, 2)(torch.tensor([0, 1, 2, 9]))")
    assert seen.get("values") is None and seen["shape"] == (4,)


def test_several_tokenizers_are_not_guessed_between():
    make = "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
    one = "PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({'a': 0}, unk_token='a')))"
    seen = look(make + f"first, second = {one}, {one}", "torch.nn.Embedding(5, 2)(torch.tensor([9]))")
    assert seen["tokenizer"] == ""


ASSERTED = 'raise RuntimeError("CUDA error: device-side assert triggered")'
MODEL = "from transformers import BertConfig, BertForSequenceClassification, BertModel\n"
SIZES = "vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8"


def test_after_an_assertion_the_labels_in_host_memory_are_held_against_the_models_classes():
    model = f"{MODEL}model = BertForSequenceClassification(BertConfig(num_labels=3, {SIZES}))"
    seen = look(model, "good, y_train = [0, 2], [0, 1, 5]", ASSERTED)
    assert (seen["host"]["variable"], seen["host"]["limit"], seen["model"]) == ("y_train", 3, "model")
    assert seen["host"]["values"]["first"] == 5 and seen["host"]["origin"] == "config.num_labels"


def test_after_an_assertion_a_head_that_was_replaced_says_how_many_classes_there_are():
    model = (
        f"{MODEL}model = BertForSequenceClassification(BertConfig({SIZES}))\nmodel.classifier = torch.nn.Linear(8, 5)"
    )
    host = look(model, "labels = torch.tensor([1, 2, 4, 5])", ASSERTED)["host"]
    assert (host["limit"], host["origin"]) == (5, "classifier.out_features")
    assert (host["values"]["first"], host["values"]["place"], host["values"]["count"]) == (5, (3,), 1)


def test_after_an_assertion_the_ids_of_a_batch_are_held_against_the_vocabulary():
    model = f"{MODEL}model = BertModel(BertConfig({SIZES}))"
    seen = look(
        model, "batch = {'input_ids': torch.tensor([[1, 6], [9, 0]]), 'labels': torch.tensor([3, 4])}", ASSERTED
    )
    assert (seen["host"]["variable"], seen["host"]["values"]["place"]) == ('batch["input_ids"]', (1, 0))


def test_labels_of_a_model_without_classes_are_not_held_against_the_default_of_two():
    model = f"{MODEL}model = BertModel(BertConfig({SIZES}))"
    assert look(model, "labels = torch.tensor([5, -100])", ASSERTED)["host"] == {}


def test_labels_within_the_classes_are_left_alone_and_so_are_scores():
    model = f"{MODEL}model = BertForSequenceClassification(BertConfig(num_labels=3, {SIZES}))"
    assert look(model, "labels, targets = torch.tensor([0, 2, -100]), torch.tensor([9.5])", ASSERTED)["host"] == {}


def test_an_object_that_raises_when_it_is_asked_costs_the_others_nothing():
    hostile = """
class Hostile(torch.nn.Module):
    @property
    def config(self): raise RuntimeError("asked for its configuration")
    @property
    def __class__(self): raise RuntimeError("asked for its class")
class BatchEncoding:
    @property
    def data(self): raise RuntimeError("asked for its data")
hostile, batch = Hostile(), BatchEncoding()
"""
    model = f"{MODEL}model = BertForSequenceClassification(BertConfig(num_labels=3, {SIZES}))"
    seen = look(hostile, model, "labels = torch.tensor([0, 3])", ASSERTED)
    assert (seen["host"]["variable"], seen["model"]) == ("labels", "model")
