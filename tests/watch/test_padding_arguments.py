"""Arguments that only a loss or a setting needs hide no padded call from the watch; what the model reads besides ids does."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.watch.test_padding import ROWS, made, watched  # noqa: E402

pytestmark = pytest.mark.hf


@pytest.mark.parametrize(("step", "fields"), [("train()", 1), ("evaluate()", 1), ("predict(rows)", 1), ("train()", 2)])
def test_a_trainers_calls_are_watched(tmp_path, step, fields):
    """A Trainer passes ``num_items_in_batch``, too, which is a tensor and no part of what the model reads."""
    rows = [
        {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": 1} for ids in torch.tensor([*ROWS, *ROWS])
    ]
    if fields == 1:
        rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in rows]
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments = transformers.TrainingArguments(str(tmp_path), per_device_train_batch_size=2, max_steps=2, **quiet)
    model = made("bert")
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    found = watched(f"trainer.{step}", model=model, trainer=trainer, rows=rows, ids=None, batch=None)
    assert [finding.facts["cause"] for finding in found] == (["mask"] if fields == 1 else [])


def test_a_question_answering_model_is_watched_while_it_is_trained():
    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering(made("bert").config)
    places = "start_positions=torch.tensor([1, 1]), end_positions=torch.tensor([2, 2])"
    (found,) = watched(f"model(ids, {places}).loss.backward()", model=model)
    assert found.facts["cause"] == "mask"
    assert watched(f"model(ids, mask, {places}).loss.backward()", model=model) == []


class Weighted(transformers.BertForSequenceClassification):
    """Takes more than a model of the library does; without what only its loss needs, it answers the same."""

    def forward(self, input_ids, attention_mask=None, sentence_labels=None, weight=None, shift=None):
        return super().forward(input_ids, attention_mask)


@pytest.mark.parametrize(
    ("argument", "causes"),
    [
        ("sentence_labels=torch.tensor([0, 1])", ["mask"]),
        ("weight=torch.tensor(0.5)", ["mask"]),
        ("shift=[1, 2]", ["mask"]),
        ("shift=torch.ones(2, 6)", []),  # it may say how the ids are read
    ],
)
def test_only_what_a_model_may_read_hides_a_call(argument, causes):
    model = Weighted(made("bert").config).eval()
    assert [finding.facts["cause"] for finding in watched(f"model(ids, {argument})", model=model)] == causes


@pytest.mark.parametrize("setting", ["eos_token_id=[38, 39]", "bad_words_ids=[[5], [6, 7]]", "suppress_tokens=[5]"])
def test_settings_of_generation_that_are_lists_hide_no_call(setting):
    (found,) = watched(f"model.generate(ids, attention_mask=mask, max_new_tokens=2, {setting})", model=made("gpt2"))
    assert found.facts["cause"] == "generation"


def test_the_probe_leaves_out_what_only_the_loss_needs():
    from tfdiag_ipython.probe import Scene
    from tfdiag_ipython.probes.padding import PaddingProbe

    torch.manual_seed(0)
    model = transformers.BertForQuestionAnswering(made("bert").config)
    batch = {"input_ids": torch.tensor(ROWS), "start_positions": torch.tensor([1, 1]), "end_positions": torch.ones(2)}
    seen = PaddingProbe().ask("model batch", Scene({"model": model, "batch": batch}))
    assert seen["cause"] == "mask"
