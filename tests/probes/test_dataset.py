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
        (
            [{"labels": "good"}],
            "`labels` in row 0 is the text 'good', and the model takes numbers (`model.config.num_labels` is 3): map it",
        ),
        ([{"labels": ["a", "b"]}], "a list with the text 'a'"),
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


class Damaged(Map):
    """Of which every third row raises."""

    def __getitem__(self, number):
        if isinstance(number, int) and number % 3 == 1:
            raise OSError(f"picture {number} is damaged")
        return super().__getitem__(number)


class DamagedColumns(Columns):
    def __getitem__(self, part):
        if part != slice(0, 1000) and part % 3 != 1:
            return super().__getitem__(part)
        raise OSError(f"picture {part if isinstance(part, int) else 1} is damaged")


@pytest.mark.parametrize("kind", [Damaged, DamagedColumns])
def test_rows_that_raise_are_named_and_the_others_are_checked(kind, model):
    seen = ask(kind([*ROWS, ROWS[1], ROWS[2]]), model)
    assert (seen["read"], seen["unread"], seen["failed"][0]) == (4, 2, (1, "OSError: picture 1 is damaged"))
    assert counts(seen)["labels", "label"] == 1  # row 3
    assert "2 rows could not be read, the first is row 1 (OSError: picture 1 is damaged)" in seen.missing
    assert any(one.what == "row 4" and "picture 4" in one.value for one in seen.seen)


def test_where_no_row_can_be_read_it_stops_soon(model):
    asked = []

    class Gone(Map):
        def __getitem__(self, number):
            asked.append(number)
            raise KeyError("image")

    seen = ask(Gone([{}] * 5000), model)
    assert "row 0 raised KeyError: 'image'" in seen.missing and not seen and len(asked) < 100


def test_a_text_among_the_labels_is_said_and_the_others_are_checked(model):
    seen = ask([{"labels": 0}, {"labels": "good"}, {"labels": 3}], model)
    assert counts(seen)["labels", "label"] == 1 and seen.finding is not None
    assert "`labels` is no number in 1 row, the first is row 1 with the text 'good'" in seen.missing


def answers(torch, kind="Bert"):
    import transformers

    sizes = {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16} if kind == "XLNet" else SIZES
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 40, **sizes})
    name = "XLNetForQuestionAnswering" if kind == "XLNet" else "BertForQuestionAnswering"
    return getattr(transformers, name)(config)


def rows_with(*places):
    return [{"input_ids": [2, 5, 7], "start_positions": place, "end_positions": 2} for place in places]


def test_an_answer_that_was_cut_off_is_counted_and_no_fault(torch):
    seen = ask(rows_with(0, 2, 3, 384), answers(torch))
    assert counts(seen) == {
        ("input_ids", "id"): 0,
        ("input_ids", "length"): 0,
        ("start_positions", "answer"): 2,
        ("end_positions", "answer"): 0,
    }
    assert seen.finding is None and not seen.missing


def test_answers_that_mostly_lie_behind_their_rows_are_a_fault(torch):
    seen = ask(rows_with(0, 30, 41, 57), answers(torch))  # characters, not tokens
    assert seen.finding is not None and seen["wrong"] == 3


def test_an_answer_behind_its_row_is_a_fault_where_the_model_looks_it_up(torch):
    model = answers(torch, "XLNet")
    assert ask(rows_with(0, 1, 2, 3), model).finding is not None
    ids = torch.tensor([[2, 5, 7]])
    model(ids, start_positions=torch.tensor([2]), end_positions=torch.tensor([2]))
    with pytest.raises((IndexError, RuntimeError)):
        model(ids, start_positions=torch.tensor([3]), end_positions=torch.tensor([2]))


def test_labels_that_a_decoder_reads_have_the_decoders_positions(torch):
    import transformers

    both = {f"{part}_{key}": 1 for part in ("encoder", "decoder") for key in ("layers", "attention_heads", "ffn_dim")}
    config = transformers.LEDConfig(
        vocab_size=40, d_model=16, max_encoder_position_embeddings=16, max_decoder_position_embeddings=4, **both
    )
    seen = ask([{"input_ids": [2] * 16, "labels": [2] * 5}], transformers.LEDForConditionalGeneration(config))
    assert counts(seen)["input_ids", "length"] == 0 and counts(seen)["labels", "length"] == 1


def test_the_positions_of_pictures_are_none_of_the_texts(torch):
    import transformers

    text = {**SIZES, "max_position_embeddings": 12}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(text_config=text, vision_config={**vision, "image_size": 8, "patch_size": 4})
    seen = ask([{"input_ids": [2] * 12}, {"input_ids": [2] * 13}], transformers.CLIPModel(config))
    assert counts(seen)["input_ids", "length"] == 1  # a picture has five


def test_random_numbers_are_as_before(model, torch):
    class Draws(Map):
        def __getitem__(self, number):
            torch.rand(1), random.random()
            return super().__getitem__(number)

    before, plain = torch.get_rng_state(), random.getstate()
    assert ask(Draws(ROWS), model).finding is not None
    assert torch.equal(torch.get_rng_state(), before) and random.getstate() == plain
