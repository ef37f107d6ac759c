"""What the padding watch says of programs that really run, and of which correct ones it stays silent."""

import linecache

import pytest

from tfdiag_ipython.probe import Cell, Scene
from tfdiag_ipython.watch.padding import PaddingWatch

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "the", "a", "film", "plot", "was", "good", "bad", "dull"]
ROWS = [[2, 5, 7, 9, 4, 3], [2, 8, 3, 0, 0, 0]]


def tokenizer(pad="[PAD]"):
    from tokenizers import Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad, unk_token="[UNK]")


def made(name, **changes):
    """A tiny random model whose outputs depend on what it reads."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "initializer_range": 0.5, "pad_token_id": 0} | changes
    decoder = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "initializer_range": 0.5}
    decoder |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0} | changes
    seq2seq = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2} | changes
    seq2seq |= {"decoder_start_token_id": 0, "initializer_factor": 5.0}
    tf = transformers
    return {
        "bert": lambda: tf.BertForSequenceClassification(tf.BertConfig(**sizes)),
        "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**decoder)),
        "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**sizes)),
        "t5": lambda: tf.T5ForConditionalGeneration(tf.T5Config(**seq2seq)),
    }[name]().eval()


def watched(source, *, patience=60.0, **namespace):
    """The findings of a cell that runs under the watch; ``patience``: seconds that measuring may take."""
    ids = torch.tensor(ROWS)
    mask = (ids != 0).long()
    namespace = {
        "torch": torch,
        "ids": ids,
        "mask": mask,
        "batch": {"input_ids": ids, "attention_mask": mask},
    } | namespace
    file = "<ipython-input-1-watched>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    watch = PaddingWatch()
    watch.start()
    try:
        exec(compile(source, file, "exec"), namespace)
    finally:
        found = watch.stop(Scene(namespace, cells=[Cell(1, source)], live=True, seconds=patience))
    return found


@pytest.mark.parametrize(
    "source",
    [
        'model(\n    input_ids=batch["input_ids"],  # no mask\n)',
        f'model(batch["input_ids"], output_attentions={" or ".join(["None"] * 20)})',
    ],
)
def test_a_call_over_several_lines_or_a_long_one_is_shown_short_and_can_be_edited(source):
    (found,) = watched(f"with torch.no_grad():\n    scores = {source}", model=made("bert"))
    ((_, shown),) = found.facts["unmasked"]
    assert found.facts["editable"] and len(shown) <= 120 and "#" not in shown
    assert shown.startswith(("scores = model(input_ids=batch", 'scores = model(batch["input_ids"]'))


@pytest.mark.parametrize(
    ("name", "source", "cause"),
    [
        ("bert", "model(ids)", "mask"),
        ("bert", "model(ids, torch.ones_like(ids))", "contradicted"),
        ("bert", "model(input_ids=ids, attention_mask=mask.flip(1))", "contradicted"),
        ("bert", "model(torch.cat([ids, ids], 1))", "mask"),  # in the middle, too
        ("t5", "model(input_ids=ids, decoder_input_ids=ids[:, :3])", "mask"),
        ("t5", "model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids.flip(1))", "mask"),
        ("t5", "model(input_ids=ids, labels=ids[:, :3].clone())", "mask"),
        ("gpt2", "model(ids.flip(1))", "positions"),
        ("gpt2", "model(ids.flip(1), attention_mask=mask.flip(1))", "positions"),
        (
            "gpt2",
            "model(ids.flip(1), attention_mask=mask.flip(1), position_ids=torch.arange(6).expand(2, 6))",
            "positions",
        ),
        ("llama", "model(ids.flip(1))", "mask"),
        ("gpt2", "model.generate(ids, attention_mask=mask, max_new_tokens=2)", "generation"),
        ("llama", "model.generate(ids, max_new_tokens=2)", "generation"),
        ("llama", "model.generate(ids.flip(1), attention_mask=torch.ones_like(ids), max_new_tokens=2)", "contradicted"),
    ],
)
def test_wrong_answers_are_measured_and_their_cause_is_told(name, source, cause):
    (found,) = watched(source, model=made(name))
    assert found.facts["cause"] == cause
    assert found.facts["asgiven"] > 10 * found.facts["tolerance"]


def test_the_mask_of_the_decoder_is_named():
    (found,) = watched("model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids.flip(1))", model=made("t5"))
    assert found.facts["argument"] == "decoder_attention_mask"


def test_a_padding_token_that_also_ends_texts_is_padding_where_rows_have_more_of_it_than_others():
    model = made("llama", eos_token_id=0, bos_token_id=None)
    ended = torch.tensor([[0, 0, 2, 8, 0], [2, 5, 7, 9, 0]])  # both end with it; the first begins with padding
    (found,) = watched("model(ended)", model=model, ended=ended)
    assert found.facts["padded"] == 1 and found.facts["picture"][0][1] == 3  # its own end counts as text


def test_every_model_is_seen_and_every_line_told_once():
    found = watched("for _ in range(3):\n    model(ids)\n    other(ids)", model=made("bert"), other=made("bert"))
    assert [finding.facts["model"] for finding in found] == ["model", "other"]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("bert", "model(ids, mask)"),
        ("bert", "model(**batch)"),
        ("bert", "def answer(network, fields):\n    return network(**fields).logits\nanswer(model, batch)"),
        ("bert", "model(ids, attention_mask=mask.bool())"),
        ("bert", "model(ids, attention_mask=mask.float())"),
        ("bert", "try:\n    model(ids, attention_mask=mask[:, None, None, :].float().log())\nexcept ValueError:\n    pass"),  # a mask to be added
        ("bert", "model(inputs_embeds=torch.randn(2, 6, 16))"),
        ("bert", "try:\n    model(ids[:0])\nexcept RuntimeError:\n    pass"),
        ("bert", "model(ids[:1])"),
        ("gpt2", "model(ids)"),
        ("gpt2", "model(ids, attention_mask=mask)"),
        ("gpt2", "model(ids, labels=ids)"),
        ("gpt2", "model(ids, labels=torch.where(ids == 0, -100, ids), use_cache=False).loss.backward()"),
        ("llama", "model(ids)"),
        ("llama", "model(ids.flip(1), attention_mask=mask.flip(1))"),
        ("llama", "model(ids[:1].repeat(1, 2), position_ids=torch.arange(6).repeat(1, 2))"),  # two texts in a row
        ("gpt2", "skip = (mask.flip(1).cumsum(1) - 1).clamp(min=0)\nmodel(ids.flip(1), attention_mask=mask.flip(1), position_ids=skip)"),
        ("gpt2", "model.generate(ids.flip(1), attention_mask=mask.flip(1), max_new_tokens=2)"),
        ("gpt2", "model.generate(ids.flip(1), max_new_tokens=2)"),  # the library makes the mask
        ("llama", "model.generate(ids[:1], max_new_tokens=2)"),
        ("t5", "model(input_ids=ids, attention_mask=mask, decoder_input_ids=ids)"),
        ("t5", "model(input_ids=ids, attention_mask=mask, labels=torch.where(ids == 0, -100, ids))"),
        ("t5", "model.generate(ids, attention_mask=mask, max_new_tokens=2)"),
        ("bert", "model(torch.tensor([[2, 0, 5, 7], [0, 3, 4, 0], [6, 0, 8, 0]]))"),  # ids drawn at random
        ("bert", "model(torch.tensor([[0, 3, 4, 5], [6, 7, 8, 9]]))"),
        ("bert", "class Wrapper(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.inner = model\n    def forward(self, rows):\n        return self.inner(rows, (rows != 0).long())\nWrapper()(ids)"),
    ],
)  # fmt: skip
def test_correct_and_harmless_programs_are_met_with_silence(name, source):
    assert watched(source, model=made(name)) == []


def test_texts_that_all_end_with_the_token_that_also_pads_are_not_padded():
    model = made("gpt2", eos_token_id=0)
    ended = torch.tensor([[2, 5, 7, 0], [3, 8, 9, 0]])
    assert watched("model.generate(ended, max_new_tokens=2); model(ended)", model=model, ended=ended) == []
    assert watched("model.generate(ended[:1], max_new_tokens=2)", model=model, ended=ended) == []


@pytest.mark.parametrize(("name", "begins"), [("gpt2", []), ("llama", [5])])
def test_blocks_cut_from_joined_texts_are_not_padded(name, begins):
    model = made(name, eos_token_id=0)
    torch.manual_seed(1)
    texts = [[*begins, *torch.randint(6, 40, (length,)).tolist(), 0] for length in (3, 5, 4, 6, 3, 5, 4) * 4]
    stream = torch.tensor([token for text in texts for token in text])
    blocks = stream[: len(stream) // 8 * 8].reshape(-1, 8)
    assert bool((blocks[:, 0] == 0).any()) and bool(
        (blocks[:, -1] == 0).any()
    )  # some begin, some end with the end of a text
    assert watched("for part in blocks.split(4):\n    model(part, labels=part)", model=model, blocks=blocks) == []
    turns = torch.tensor([[5, 6, 7, 0], [5, 6, 7, 8]])
    assert watched("model.generate(turns, max_new_tokens=2)", model=model, turns=turns) == []


LOOP = "for part in loader:\n    scores = model(part['input_ids'].to('cpu'))"


@pytest.mark.parametrize(
    ("fields", "mask"),
    [(("input_ids",), '(part["input_ids"] != 0).long()'), (("input_ids", "attention_mask"), 'part["attention_mask"]')],
)
def test_a_batch_of_a_loop_goes_by_the_name_in_the_call(fields, mask):
    ids = torch.tensor([*ROWS, ROWS[0], ROWS[0]])
    rows = [{"input_ids": row, "attention_mask": (row != 0).long()} for row in ids]
    loader = torch.utils.data.DataLoader([{name: row[name] for name in fields} for row in rows], batch_size=2)
    (found,) = watched(LOOP, model=made("bert"), loader=loader, ids=None, batch=None)
    assert (found.facts["inputs"], found.facts["mask"], found.facts["editable"]) == ("part", mask, True)


def test_ids_in_a_mapping_without_a_mask_give_one_by_their_key():
    (found,) = watched("model(part['input_ids'])", model=made("bert"), part={"input_ids": torch.tensor(ROWS)})
    assert found.facts["mask"] == '(part["input_ids"] != 0).long()'


def test_what_torch_compile_makes_of_a_model_is_watched():
    fast = torch.compile(made("bert"), backend="eager")
    (found,) = watched("fast(ids)", fast=fast)
    assert (found.facts["cause"], found.facts["model"]) == ("mask", "fast")


def test_what_a_model_counts_and_keeps_is_what_the_cell_left():
    class Counting(transformers.BertForSequenceClassification):
        calls, kept = 0, None

        def forward(self, input_ids=None, attention_mask=None, **others):
            result = super().forward(input_ids=input_ids, attention_mask=attention_mask, **others)
            self.calls, self.kept = self.calls + 1, result.logits
            self.seen.append(tuple(input_ids.shape))
            self.steps += 1
            return result

    model = Counting(made("bert").config).eval()
    model.seen = []
    model.register_buffer("steps", torch.tensor(0))
    (found,) = watched("model(ids)", model=model)
    assert found.facts["cause"] == "mask"
    assert (model.calls, model.seen, int(model.steps), model.kept.shape[0]) == (1, [(2, 6)], 1, 2)


def test_a_model_with_hooks_of_the_persons_own_is_not_run_unasked():
    model, seen = made("bert"), []
    model.bert.encoder.layer[0].register_forward_hook(lambda module, given, result: seen.append(1))
    (found,) = watched("model(ids)", model=model)
    assert len(seen) == 1 and "tolerance" not in found.facts and found.facts["unmeasured"] == "hooks"


def test_a_single_padding_token_counts_where_the_tokenizer_pads_with_it():
    ids = torch.tensor([[2, 3, 4, 5], [6, 7, 8, 0]])
    assert watched("model(short)", model=made("bert"), short=ids) == []
    (found,) = watched("model(short)", model=made("bert"), short=ids, tokenizer=tokenizer())
    assert found.facts["padded"] == 1


def test_a_model_without_a_padding_token_goes_by_the_tokenizer(monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["__main__"], "made_up_tokenizer", tokenizer(), raising=False)
    model = made("llama", pad_token_id=None)
    (found,) = watched("model(ids.flip(1))", model=model, tokenizer=tokenizer())
    assert found.facts["cause"] == "mask"


@pytest.mark.parametrize("pad", [None, [0, 1], "0", -1, True])
def test_what_is_no_padding_token_is_none(pad):
    model = made("bert")
    model.config.__dict__["pad_token_id"] = pad
    source = "try:\n    model(ids)\nexcept Exception:  # transformers 4 itself stumbles over some of these\n    pass"
    assert watched(source, model=model) == []


def test_a_configuration_that_raises_costs_nothing():
    class Hostile:
        def __getattribute__(self, name):
            raise RuntimeError(name)

    model = made("gpt2")
    object.__setattr__(model, "hostile", Hostile())
    assert watched("model(ids)", model=model, hostile=Hostile()) == []


def test_training_state_is_bit_for_bit_what_the_cell_left():
    model = made("bert", hidden_dropout_prob=0.5)
    model.train()
    model.bert.pooler.eval()
    source = "loss = model(ids, labels=torch.tensor([0, 1])).loss; loss.backward(); state = torch.get_rng_state()"
    namespace = {"model": model}
    flags = [module.training for module in model.modules()]
    (found,) = watched(source + "; keep.append(state); keep.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)", **namespace, keep=(kept := []))  # fmt: skip
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert found.facts["cause"] == "mask" and torch.equal(torch.get_rng_state(), kept[0])
    assert all(torch.equal(one, other) for one, other in zip(grads, kept[1:], strict=True))
    assert [module.training for module in model.modules()] == flags
    assert not any(name in vars(kind) for kind, name in ((transformers.PreTrainedModel, "__call__"),))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_of_each_dtype_is_told_from_padding(dtype):
    kind = getattr(torch, dtype)
    (found,) = watched("model(ids)", model=made("bert", num_hidden_layers=4).to(kind))
    assert found.facts["with"] <= found.facts["tolerance"] < found.facts["asgiven"]
    for name in ("gpt2", "llama"):
        assert watched("model(ids)", model=made(name).to(kind)) == []
