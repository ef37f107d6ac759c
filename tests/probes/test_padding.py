"""The padding probe speaks only of differences that it measured, and leaves the model as it was."""

import pytest

from tfdiag_ipython.probe import Scene

pytestmark = pytest.mark.hf
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def torch():
    module = pytest.importorskip("torch")
    module.manual_seed(0)
    return module


def made(name, torch):
    import transformers

    wide = {"initializer_range": 0.5, "pad_token_id": 0}
    decoder = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    small = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return {
        "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, **wide)),
        "bert-tokens": lambda: transformers.BertForTokenClassification(transformers.BertConfig(**SIZES, **wide)),
        "roberta": lambda: transformers.RobertaModel(
            transformers.RobertaConfig(**SIZES, **(wide | {"pad_token_id": 0}))
        ),
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**decoder, **wide)),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **wide)),
        "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**small, initializer_factor=5.0)),
    }[name]()


def ask(model, ids, torch, side="right", inputs="batch"):
    rows = ids if side == "right" else [[0] * row.count(0) + [t for t in row if t] for row in ids]
    tensor = torch.tensor(rows)
    batch = {"input_ids": tensor, "attention_mask": (tensor != 0).long()}
    from tfdiag_ipython.probes.padding import PaddingProbe

    return PaddingProbe().ask(f"model {inputs}", Scene({"model": model, "batch": batch, "ids": tensor}))


ROWS = [[2, 5, 7, 9, 11, 3], [2, 8, 3, 0, 0, 0]]


@pytest.mark.parametrize("name", ["bert", "bert-tokens", "t5"])
def test_an_encoder_without_its_mask_is_wrong_and_the_mask_cures_it(name, torch):
    seen = ask(made(name, torch), ROWS, torch)
    assert seen["without"] > 1e-2 and seen["with"] < seen["tolerance"]
    assert seen.finding is not None


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_with_padding_on_the_right_is_no_finding(name, torch):
    seen = ask(made(name, torch), ROWS, torch)
    assert seen["without"] < seen["tolerance"] and seen.finding is None


def test_a_decoder_with_padding_on_the_left_is_not_cured_by_the_mask_alone(torch):
    seen = ask(made("gpt2", torch), ROWS, torch, side="left")
    assert seen.finding is not None and seen["side"] == "left"
    assert seen["with"] > seen["tolerance"]


def test_plain_ids_take_the_padding_token_from_the_model(torch):
    seen = ask(made("bert", torch), ROWS, torch, inputs="ids")
    assert seen.finding is not None and seen["mask"] == "(ids != 0).long()"


def test_nothing_padded_is_said_and_no_finding(torch):
    seen = ask(made("bert", torch), [[2, 5, 7], [2, 8, 3]], torch)
    assert "padded" in seen.missing and seen.finding is None


def test_training_mode_gradients_and_random_state_are_as_before(torch):
    model = made("bert", torch)
    model.train()
    model.bert.pooler.eval()
    flags, state = [m.training for m in model.modules()], torch.get_rng_state()
    ask(model, ROWS, torch)
    assert [m.training for m in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "which model and inputs"),
        ("model", "which model and inputs"),
        ("nothing batch", "KeyError"),
        ("model nothing", "KeyError"),
        ("batch batch", "is no model"),
        ("model model", "input_ids"),
        ("model __import__('os').system('x')", "no name of a variable"),
        ("model batch[", "no name of a variable"),
    ],
)
def test_a_wrong_argument_is_a_sentence(arguments, told, torch):
    from tfdiag_ipython.probes.padding import PaddingProbe

    seen = PaddingProbe().ask(arguments, Scene({"model": made("bert", torch), "batch": {}}))
    assert told in seen.missing and not seen


def asked_after(torch, *cells):
    """What the probe sees in a notebook in which these cells were run."""
    from tfdiag_ipython.probes.padding import PaddingProbe
    from tfdiag_ipython.testing import PlainHost

    host = PlainHost()
    ids = torch.tensor(ROWS)
    host.namespace |= {"model": made("bert", torch).eval(), "ids": ids, "other": ids}
    host.namespace["batch"] = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    for source in cells:
        assert host.add(source).failure is None
    return PaddingProbe().ask("model batch", host.scene())


@pytest.mark.parametrize(
    "call",
    [
        "model(**batch)",
        'model(batch["input_ids"], attention_mask=batch["attention_mask"])',
        "model(**batch, labels=None)",
    ],
)
def test_a_program_that_passes_the_mask_is_left_alone(call, torch):
    seen = asked_after(torch, f"logits = {call}.logits")
    assert seen["without"] > seen["tolerance"] and seen.finding is None
    assert any("cell 1: with the mask" in observation.value for observation in seen.seen)


@pytest.mark.parametrize(
    "call",
    ['model(batch["input_ids"])', "model(input_ids = batch['input_ids'])", "model(batch['input_ids'].to('cpu'))"],
)
def test_the_call_without_the_mask_is_named(call, torch):
    seen = asked_after(torch, "logits = model(**batch).logits", f"logits = {call}.logits")
    assert seen["unmasked"] == (("cell 2", call),) and seen.finding is not None


@pytest.mark.parametrize(
    "call", ["model(other)", "model(ids, None)", "model.config", "print('model(batch[\"input_ids\"])')"]
)
def test_calls_on_other_inputs_are_no_evidence(call, torch):
    seen = asked_after(torch, call)
    assert (seen["unmasked"], seen["masked"]) == ((), ())
