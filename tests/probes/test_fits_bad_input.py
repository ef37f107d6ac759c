"""``%tfdiag probe fits`` on what people may name: each ends in a sentence that says what is wrong, or in a right answer."""

import pytest

torch = pytest.importorskip("torch")

from tests.probes.test_fits import Plain, ask, batch_of, model_of  # noqa: E402
from tests.probes.test_training_state import look, made  # noqa: E402
from tfdiag_ipython.probe import Scene  # noqa: E402
from tfdiag_ipython.probes.fits import FitsProbe  # noqa: E402

pytestmark = [pytest.mark.hf, pytest.mark.usefixtures("small_steps")]


def generator():
    yield torch.rand(2, 4)


def hostile(name):
    """An object each of whose attributes raises; a model whose ``name`` does."""

    def fail(self, *_, **__):
        raise RuntimeError("closed")

    if name == "__getattr__":
        return type("Hostile", (), {name: fail})()
    return type("Hostile", (Plain,), {name: fail})()


class Closed(dict):
    def items(self):
        raise RuntimeError("closed")


class Demanding(torch.optim.SGD):
    def __init__(self, parameters, must):
        super().__init__(parameters)


SENTENCES = [
    ("", "say which model and inputs"),
    ("model", "say which model and inputs"),
    ("model batch more", "say which model and inputs (`more` is left over)"),
    ("model batch --memory 8 GiB", "say which model and inputs (`GiB` is left over)"),
    ("model batch --optimiser x", "there is no option --optimiser"),
    ("model batch --no-grad=1", "there is no option --no-grad=1"),
    ("model batch --optimizer", "--optimizer takes a value"),
    ("model batch --memory lots", "--memory takes a size such as 8GiB, not lots"),
    ("model batch --memory 8", "--memory takes a size such as 8GiB, and 8 is 8 bytes"),
    ("model batch --at-most 0", "--at-most takes a whole number from 4 on, not 0"),
    ("model batch --at-most 3", "--at-most takes a whole number from 4 on, not 3"),
    ("model batch --rows-along 7", "no input has a dimension 7"),
    ("model batch --autocast int8", "--autocast takes bfloat16 or float16"),
    ("model batch --no-grad --optimizer optimizer", "nothing is optimized"),
    ("model batch --optimizer model", "`model` is no optimizer but a Plain"),
    ("model batch --optimizer other", "optimizes none of the model's parameters"),
    ("model batch --optimizer torch.optim.LBFGS", "`LBFGS.step` takes a closure, which only your own loop has"),
    (
        "model batch --optimizer Demanding",
        "TypeError: Demanding.__init__() missing 1 required positional argument: 'must'",
    ),
    ("frozen batch --optimizer torch.optim.AdamW", "no parameter of the model is trained"),
    ("batch batch", "`batch` is no model but a Tensor"),
    ("hostile batch", "`hostile` is no model but a Hostile"),
    ("no_parameters batch", "the model cannot be read (RuntimeError: closed)"),
    ("no_parameters batch --optimizer torch.optim.AdamW", "cannot be read (RuntimeError: closed)"),
    ("no_modules batch", "the model cannot be read (RuntimeError: closed)"),
    ("lazy batch", "`0.weight` of the model gets its shape from the first batch: run the model on one, then ask again"),
    ("trainer batch", "`trainer` is no model but a Trainer: name `trainer.model`"),
    ("parallel batch", "name the model inside it (its `.module`)"),
    ("nothing batch", "there is no variable `nothing`"),
    ("model __import__('os').getcwd()", "is no name of a variable"),
    ("model generator", "a generator gives its batches away one by one"),
    ("model loader", "a DataLoader gives its batches away one by one"),
    ("model prepared", "a Prepared gives its batches away one by one"),
    ("model text", "a str is no batch"),
    ("model hostile", "a Hostile is no batch"),
    ("model closed", "the inputs cannot be read (RuntimeError: closed)"),
    (
        "model batches",
        "a list is no batch: name a dictionary of tensors, a tensor, or a tuple of tensors, such as one of its items",
    ),
    ("model empty", "the inputs have no row"),
    ("model scalar", "no input has a dimension 0"),
    ("model words", "there is no tensor among the inputs"),
    ("model wide", "a step of 2 rows fails by itself: RuntimeError: mat1 and mat2"),
    ("model double", "a step of 2 rows fails by itself: RuntimeError: mat1 and mat2 must have the same dtype"),
    ("frozen batch", "nothing in the model's outputs can be trained on"),
    ("silent batch", "nothing in the model's outputs can be trained on"),
    ("lookup batch", "a step of 2 rows fails by itself: LookupError: mine"),
    ("sparse ids", "a gradient holds a Tensor (torch.sparse_coo), whose bytes cannot be kept"),
    ("meta batch", "the model's weights are on `meta`"),
    ("spread batch", "the model is spread over cpu, meta"),
]


@pytest.mark.parametrize(("arguments", "told"), SENTENCES)
def test_bad_input_is_a_sentence(arguments, told):
    class Trainer:
        model = Plain()

    def lookup(_):
        raise LookupError("mine")

    model = Plain()
    sparse = torch.nn.Embedding(9, 4, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    names = {
        "model": model,
        "batch": torch.rand(2, 4),
        "optimizer": torch.optim.SGD(model.parameters()),
        "other": torch.optim.SGD(Plain().parameters()),
        "Demanding": Demanding,
        "trainer": Trainer(),
        "hostile": hostile("__getattr__"),
        "no_parameters": hostile("parameters"),
        "no_modules": hostile("modules"),
        "lazy": torch.nn.Sequential(torch.nn.LazyLinear(3)),
        "parallel": torch.nn.DataParallel(Plain()),
        "generator": generator(),
        "loader": torch.utils.data.DataLoader([1, 2]),
        "prepared": type("Prepared", (torch.utils.data.DataLoader,), {})([1, 2]),
        "text": "a film",
        "closed": Closed(),
        "batches": [{"values": torch.rand(2, 4)}],
        "empty": torch.rand(0, 4),
        "scalar": torch.tensor(1.0),
        "words": {"values": ["a film"]},
        "wide": torch.rand(2, 5),
        "double": torch.rand(2, 4).double(),
        "frozen": Plain().requires_grad_(False),
        "silent": Plain(lambda scores: {"loss": scores.mean().item()}),
        "lookup": Plain(lookup),
        "sparse": sparse,
        "ids": torch.tensor([1, 2]),
        "meta": Plain().to("meta"),
        "spread": torch.nn.ModuleList([Plain(), Plain().to("meta")]),
    }
    seen = ask(arguments, **names)
    assert told in seen.missing and not seen and "\n" not in seen.missing


def test_nothing_touches_a_dead_device():
    from torch._subclasses import FakeTensorMode

    names = {"model": Plain(), "batch": torch.rand(2, 4)}
    assert FitsProbe().ask("model batch --at-most 9", Scene(names, cuda_dead=True))["rows"] == 9  # the host is alive
    with FakeTensorMode():
        names["batch"] = {"values": torch.empty(2, 4, device="cuda")}
    assert "CUDA is dead" in FitsProbe().ask("model batch", Scene(names, cuda_dead=True)).missing


def test_a_model_of_several_processes_is_a_sentence():
    model = Plain()
    model.__class__ = type("DistributedDataParallel", (Plain,), {})
    assert "several processes" in ask("model batch", model=model, batch=torch.rand(2, 4)).missing


class Structured(torch.nn.Module):
    """Takes more than tensors; each thing has to be of as many rows as the batch, or as it was given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, values, masks=None, boxes=None, texts=None, count=None):
        assert masks is None or (len(masks["first"][0]) == len(values) and masks["all"].shape == (5,))
        assert boxes is None or [len(box["corners"]) for box in boxes] == [
            4 - place % 2 for place in range(len(values))
        ]
        assert texts is None or len(texts) == len(values)
        assert count is None or type(count) is int
        return self.layer(values)


@pytest.mark.parametrize(
    "more",
    [
        {"masks": {"first": (torch.ones(2),), "all": torch.ones(5)}},
        {"boxes": [{"corners": torch.rand(4, 2)}, {"corners": torch.rand(3, 2)}]},
        {"texts": ["a film", "a book"]},
        {"count": 3},
    ],
)
def test_rows_within_dictionaries_and_lists_are_repeated_too(more):
    seen = ask("model batch --at-most 50", model=Structured(), batch={"values": torch.rand(2, 4), **more})
    assert seen.get("rows") == 50, seen.missing


@pytest.mark.parametrize("wrap", [lambda s: {"loss": s.mean(1)}, lambda s: {"loss": 1.0, "scores": s}])
def test_a_loss_for_each_row_and_one_that_is_no_tensor_will_do(wrap):
    assert ask("model batch --at-most 50", model=Plain(wrap), batch=torch.rand(2, 4))["rows"] == 50


def test_an_array_a_compiled_model_and_half_precision_will_do():
    batch, model = torch.rand(2, 4), Plain()
    assert ask("model batch --at-most 50", model=model, batch=batch.numpy())["rows"] == 50
    compiled = torch.compile(model, backend="eager")
    seen = ask("model batch --at-most 50", model=compiled, batch={"values": batch, "number": torch.arange(2)})
    assert seen["rows"] == 50 and any("does not take it: `number`" in one.value for one in seen.seen)
    assert ask("model batch --at-most 50", model=Plain().bfloat16(), batch=batch.bfloat16())["rows"] == 50


def test_an_optimizer_that_a_scheduler_counts_for_will_do():
    model = Plain()
    optimizer = torch.optim.SGD(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    before = scheduler.state_dict(), optimizer.step
    names = {"model": model, "batch": torch.rand(2, 4), "optimizer": optimizer}
    assert ask("model batch --at-most 50 --optimizer optimizer", **names)["rows"] == 50
    assert (scheduler.state_dict(), optimizer.step) == before


def failing_at(first, kind=ValueError, text="odd rows"):
    """A model that fails from so many rows on."""

    def check(scores):
        if len(scores) >= first:
            raise kind(text)
        return scores

    return Plain(check)


@pytest.mark.parametrize("first", [5, 600])
def test_an_error_in_a_trial_is_no_refusal_of_memory(first):
    model = failing_at(first)
    seen = ask("model batch --at-most 2000", model=model, batch=torch.rand(2, 4))
    told = {observation.what: observation for observation in seen.seen}
    ran = max([4, *(rows for rows, *_ in seen["trials"])])
    failed, words = seen["failed"]
    assert (seen["rows"], words) == (ran, "ValueError: odd rows") and ran < first <= failed
    assert not any(refused for *_, refused in seen["trials"])
    assert told["largest batch"].value == f"at least {ran:,} rows"
    assert told[f"trial {len(seen['trials']) + 1}: {failed:,} rows"].value == "failed"
    assert any(f"`--at-most {failed - 1}`" in observation.value for observation in seen.seen)


@pytest.mark.parametrize("last", [1, 2, 4])
def test_everything_is_as_it_was_when_a_step_fails(last):
    model, optimizer = made(True, True)

    def check(_, given):
        if len(given[0]) > last:
            raise ValueError("odd rows")

    model.drop.register_forward_pre_hook(check)
    before = look(model, optimizer)
    arguments = "model ids --at-most 64 --optimizer optimizer"
    seen = ask(arguments, model=model, ids=torch.arange(6), optimizer=optimizer)
    assert "ValueError: odd rows" in (seen.missing if last < 4 else seen["failed"])
    assert look(model, optimizer) == before


def test_labels_of_another_length_are_told_with_the_rows_at_which_they_do_not_fit():
    batch = batch_of("bert", 3) | {"labels": batch_of("bert", 2)["labels"]}
    told = ask("model batch", model=model_of("bert"), batch=batch).missing
    assert told.startswith(
        "a step of 2 rows runs, but one of 4 rows fails, and not for memory: ValueError: Expected input"
    )
    assert told.endswith("(`input_ids` has 3 rows, and `labels` has 2)")


def test_a_library_that_goes_on_refusing_is_told():
    """Measured: oneDNN, once without room for the code of a layer in bfloat16, refuses such layers until the process ends."""
    model = failing_at(20, RuntimeError, "could not create a primitive")
    seen = ask("model batch --at-most 64", model=model, batch=torch.rand(2, 4))
    assert 4 <= seen["rows"] < 20 and seen["failed"] is None
    assert any("restart the kernel" in observation.value for observation in seen.seen)
