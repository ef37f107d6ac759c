"""The data set probe counts what is out of range in rows it asks for, and leaves alone what can be read only once."""

import random

import pytest

from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.dataset import DatasetProbe

pytestmark = pytest.mark.hf
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def model(torch):
    import transformers

    config = transformers.BertConfig(**SIZES, num_labels=3, max_position_embeddings=6)
    return transformers.BertForSequenceClassification(config)


def ask(train, model, arguments="train model", **names):
    return DatasetProbe().ask(arguments, Scene({"train": train, "model": model, **names}))


def counts(seen):
    return {(column["column"], column["kind"]): column["count"] for column in seen["columns"]}


ROWS = [
    {"input_ids": [2, 5, 7], "token_type_ids": [0, 0, 1], "labels": 0},
    {"input_ids": [2, 40, 41], "token_type_ids": [0, 2, 1], "labels": 3},
    {"input_ids": [2] * 7, "token_type_ids": [0] * 7, "labels": -100},
    {"input_ids": [2, -1], "token_type_ids": [0, 0], "labels": -1},
]
WRONG = {
    ("input_ids", "id"): 3,
    ("input_ids", "length"): 1,
    ("token_type_ids", "type"): 1,
    ("labels", "label"): 2,
}


class Map:
    """A torch map-style data set of the person's own."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


class Columns:
    """As `datasets.Dataset`: a slice is a dictionary of columns."""

    def __init__(self, rows):
        self.rows = rows
        self.column_names = ["text", *rows[0]]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, part):
        rows = self.rows[part]
        return {key: [row[key] for row in rows] for key in rows[0]} if isinstance(part, slice) else rows


def forms(torch):
    tensors = [{key: torch.tensor(value) for key, value in row.items()} for row in ROWS]
    loader = torch.utils.data.DataLoader(Map(tensors), batch_size=2, shuffle=True)
    table = {key: [row[key] for row in ROWS] for key in ROWS[0]}
    return {"list": ROWS, "map": Map(tensors), "columns": Columns(ROWS), "loader": loader, "table": table}


@pytest.mark.parametrize("form", ["list", "map", "columns", "loader", "table"])
def test_offenders_are_counted_with_the_first_row_and_value(form, model, torch):
    seen = ask(forms(torch)[form], model)
    assert counts(seen) == WRONG
    assert {column["kind"]: column["first"] for column in seen["columns"]} == {
        "id": ((1, 40), (3, -1)),
        "type": ((1, 2),),
        "length": ((2, 7),),
        "label": ((1, 3), (3, -1)),
    }
    assert seen["read"] == seen["rows"] == 4
    assert seen.finding is not None


def test_a_data_set_in_range_is_no_finding(model, torch):
    seen = ask(ROWS[:1] * 2500, model, "train")
    assert seen.finding is None and not seen.missing
    assert not any(counts(seen).values()) and seen["read"] == 2500


def test_a_long_row_is_fine_where_positions_are_computed(torch):
    import transformers

    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, max_position_embeddings=6))
    seen = ask([{"input_ids": [2] * 9, "labels": [39] * 8 + [40]}], llama)
    assert counts(seen)["labels", "label"] == 1  # labels are tokens here
    assert ("input_ids", "length") not in counts(seen)


def test_roberta_keeps_positions_back_for_its_padding(torch):
    import transformers

    roberta = transformers.RobertaModel(transformers.RobertaConfig(**SIZES, max_position_embeddings=8))
    rows = [{"input_ids": [2] * length} for length in (6, 7)]
    assert counts(ask(rows, roberta))["input_ids", "length"] == 1
    roberta(torch.tensor([rows[0]["input_ids"]]))  # six do fit
    with pytest.raises((IndexError, RuntimeError)):
        roberta(torch.tensor([rows[1]["input_ids"]]))


def test_a_regression_has_no_classes(torch):
    import transformers

    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, num_labels=1))
    assert ask([{"input_ids": [2], "labels": 7}], model).finding is None


def test_iterators_are_not_used_up(model, torch):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            raise AssertionError("it was read")

    once = iter(ROWS)
    for train in (once, (row for row in ROWS), Stream(), torch.utils.data.DataLoader(Stream())):
        seen = ask(train, model)
        assert "run through" in seen.missing and not seen
    assert len(list(once)) == 4


class Raises:
    def __getattr__(self, name):
        raise ValueError("no")

    def __len__(self):
        return 2

    def __getitem__(self, number):
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ([], "no rows"),
        ([{"text": "a"}], "holds indices"),
        ({"text": ["a"]}, "holds indices"),
        ({"train": [{"labels": 0}], "test": []}, 'name one of them, such as `train["train"]`'),
        ([(1, 2)], "named columns"),
        ("text", "named columns"),
        (7, "run through"),
        (Raises, "could not be checked"),
    ],
)
def test_bad_input_is_one_sentence(train, told, model, torch):
    seen = ask(train() if train is Raises else train, model)  # pytest asks a parameter for its name
    assert told in seen.missing and "\n" not in seen.missing and not seen


@pytest.mark.parametrize("arguments", ["", "nothing model", "train nothing", "train other", "train plain", "train("])
def test_bad_names_are_one_sentence(arguments, model, torch):
    seen = ask(ROWS, model, arguments, other=7, plain=torch.nn.Linear(2, 2))
    assert seen.missing and not seen


def test_an_interrupt_stops_it_and_what_was_read_counts(model, torch):
    class Interrupted(Map):
        def __getitem__(self, number):
            if number == 2:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    seen = ask(Interrupted(ROWS), model)
    assert seen["read"] == 2 and counts(seen)["labels", "label"] == 1
    assert "stopped after 2 of 4" in seen.missing and seen.finding is not None


def test_random_numbers_are_as_before(model, torch):
    class Draws(Map):
        def __getitem__(self, number):
            torch.rand(1), random.random()
            return super().__getitem__(number)

    before, plain = torch.get_rng_state(), random.getstate()
    assert ask(Draws(ROWS), model).finding is not None
    assert torch.equal(torch.get_rng_state(), before) and random.getstate() == plain
