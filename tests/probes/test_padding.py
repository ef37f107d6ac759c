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
        ("nothing batch", "there is no variable `nothing`"),
        ("model nothing", "there is no variable `nothing`"),
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


def said(torch, model, **namespace):
    """The sentence that says why nothing was measured."""
    from tfdiag_ipython.probes.padding import PaddingProbe

    seen = PaddingProbe().ask("model batch", Scene({"model": model, **namespace}))
    assert not seen and seen.finding is None
    return seen.missing


class Plain:
    """A model that is no Transformers model, with an output of its own."""

    @staticmethod
    def made(torch, output):
        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = torch.nn.Embedding(40, 4)
                self.norm = torch.nn.BatchNorm1d(4)
                self.dropout = torch.nn.Dropout(0.5)

            def forward(self, input_ids, attention_mask=None):
                seen = self.embed(input_ids)
                weight = torch.ones_like(input_ids) if attention_mask is None else attention_mask
                pooled = (seen * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
                return output(self.dropout(self.norm(pooled)))

        return Network()


def test_models_of_ones_own_are_measured_whatever_their_output_is(torch):
    import collections
    import dataclasses

    from tfdiag_ipython.probes.padding import PaddingProbe

    @dataclasses.dataclass
    class Answer:
        loss: object
        score: object

    named = collections.namedtuple("named", "loss scores")
    ids = torch.tensor(ROWS)
    for output in (
        lambda x: x,
        lambda x: (x,),
        lambda x: {"score": x},
        lambda x: Answer(None, x),
        lambda x: named(x.mean(), x),
    ):
        model = Plain.made(torch, output)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        scene = Scene({"model": model, "batch": {"input_ids": ids, "attention_mask": (ids != 0).long()}})
        seen = PaddingProbe().ask("model batch", scene)
        assert seen["without"] > 0.01 and seen["with"] <= seen["tolerance"]
        assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (lambda x: None, "holds no numbers for each row"),
        (lambda x: "text", "holds no numbers for each row"),
        (lambda x: x * float("nan"), "NaN"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_outputs_that_cannot_be_compared_are_a_sentence(output, told, torch):
    ids = torch.tensor(ROWS)
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    assert told in said(torch, Plain.made(torch, output), batch=batch)


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (lambda torch: (row for row in ROWS), "holds no `input_ids`"),
        (lambda torch: ROWS, "holds no `input_ids`"),
        (lambda torch: {"input_ids": torch.zeros(2, 3)}, "holds no `input_ids`"),
        (lambda torch: {"inputs_embeds": torch.zeros(2, 3, 16)}, "holds no `input_ids`"),
        (lambda torch: torch.zeros(0, 6, dtype=torch.long), "holds no rows"),
        (lambda torch: torch.tensor([[2, -100], [3, 4]]), "-100"),
        (lambda torch: torch.tensor(ROWS, device="meta"), "meta device"),
        (lambda torch: Hostile(), "RuntimeError"),
        (
            lambda torch: {"input_ids": torch.tensor(ROWS), "inputs_embeds": torch.zeros(2, 6, 16)},
            "`inputs_embeds`, too",
        ),
        (lambda torch: torch.tensor([[2, 400, 0], [3, 0, 0]]), "IndexError"),
    ],
)
def test_inputs_that_cannot_be_measured_are_a_sentence(batch, told, torch):
    assert told in said(torch, made("bert", torch), batch=batch(torch))


@pytest.mark.parametrize("pad", [None, [0, 1]])
def test_without_a_padding_token_the_mask_must_tell(pad, torch):
    model = made("bert", torch)
    model.config.__dict__["pad_token_id"] = pad
    assert "which token is padding" in said(torch, model, batch=torch.tensor(ROWS))


def test_an_image_model_is_a_sentence(torch):
    import transformers

    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    model = transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, **sizes))
    assert "holds no `input_ids`" in said(torch, model, batch={"pixel_values": torch.zeros(2, 3, 8, 8)})
    assert "cannot be run on these inputs" in said(
        torch, model, batch={"input_ids": torch.tensor(ROWS), "attention_mask": torch.tensor(ROWS)}
    )


def test_a_dead_device_is_not_touched(torch):
    from tfdiag_ipython.probes.padding import PaddingProbe

    seen = PaddingProbe().ask("model batch", Scene({"model": made("bert", torch), "batch": ROWS}, cuda_dead=True))
    assert "CUDA is dead" in seen.missing


def test_the_table_of_the_guide_one_padded_row_with_and_without_its_mask_against_the_row_alone(torch):
    """The padded row's logits: with the mask those of the row alone, without it others."""
    model = made("bert", torch).eval()
    ids = torch.tensor(ROWS)
    with torch.no_grad():
        alone = model(ids[1:, :3]).logits[0]
        masked = model(ids, attention_mask=(ids != 0).long()).logits[1]
        unmasked = model(ids).logits[1]
    seen = ask(model, ROWS, torch)
    assert torch.allclose(masked, alone, atol=1e-5) and not torch.allclose(unmasked, alone, atol=1e-1)
    ((row, tokens, without, cured, _),) = seen["picture"]
    assert (row, tokens) == (1, 3)
    assert without == pytest.approx(float((unmasked - alone).abs().max()), abs=1e-5) and cured < 1e-5


def test_rows_and_time_are_bounded(torch, monkeypatch):
    from tfdiag_ipython.probes import padding_models, padding_runs

    model, many = made("bert", torch), [ROWS[1]] * 40 + [ROWS[0]]
    assert len(ask(model, many, torch)["picture"]) == padding_models.MOST_ROWS - 1
    monkeypatch.setattr(padding_runs, "SECONDS", 0.0)
    assert len(ask(model, many, torch)["picture"]) == 1
