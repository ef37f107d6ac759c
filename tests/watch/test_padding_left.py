"""Padding on the left, with the right mask: which models it leads astray, why, and which it does not."""

import inspect
import sys

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers")

from tests.watch.test_padding import ROWS, made, tokenizer, watched  # noqa: E402
from tfdiag_ipython.probes.padding_places import BOTH, PLACE, POSITIONS, counts_padding  # noqa: E402

pytestmark = pytest.mark.hf
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"initializer_range": 0.5, "pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}
SEQ2SEQ = {"vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SEQ2SEQ |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "init_std": 0.5}
SEQ2SEQ |= {"pad_token_id": 0, "bos_token_id": 37, "eos_token_id": 38, "decoder_start_token_id": 38}
SEQ2SEQ |= {"forced_eos_token_id": None, "max_position_embeddings": 32}
OTHERS = {
    "DistilBert": {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "initializer_range": 0.5},
    "OPT": {**SIZES, "ffn_dim": 32, "word_embed_proj_dim": 16, "init_std": 0.5},
    "GPT2": {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5, "pad_token_id": 0},
    "GPTNeo": {"vocab_size": 40, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global"], 2]]},
    "Bloom": {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5, "pad_token_id": 0},
    "XLNet": {"vocab_size": 40, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "initializer_range": 0.5},
    "Longformer": {**SIZES, "attention_window": 4, "max_position_embeddings": 32},
    "SqueezeBert": {**SIZES, "embedding_size": 16},
    "Albert": {**SIZES, "embedding_size": 16},
    "ModernBert": {**SIZES, "global_attn_every_n_layers": 1, "sep_token_id": None, "cls_token_id": None},
}  # fmt: skip
OTHERS |= {name: {**SIZES, "num_key_value_heads": 2} for name in ("Llama", "Mistral", "Qwen2", "Phi")}
OTHERS["GPT2"] |= {"eos_token_id": None, "bos_token_id": None}


def tiny(name, head="Model"):
    torch.manual_seed(0)
    settings = SEQ2SEQ if name in ("Bart", "MBart", "Pegasus", "Marian", "M2M100") else OTHERS.get(name, SIZES)
    return getattr(tf, name + head)(getattr(tf, name + "Config")(**settings)).eval()


def translator(name):
    if name == "T5":
        return made("t5")
    return tiny(name, "MTModel" if name == "Marian" else "ForConditionalGeneration")


LEFT = "left = ids.flip(1)\n"
CALLS = [
    "model(left, attention_mask=mask.flip(1), decoder_input_ids=ids[:, :3])",
    "model(left, attention_mask=mask.flip(1), labels=ids[:, :3].clone())",
    "model.generate(left, attention_mask=mask.flip(1), max_new_tokens=3)",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["Bart", "MBart", "Pegasus", "Marian"])
def test_an_encoder_that_counts_padding_wants_it_on_the_right(name, call):
    (found,) = watched(LEFT + call, model=translator(name))
    assert (found.facts["cause"], found.facts["moved"]) == ("side", POSITIONS)
    assert found.facts["right"] <= found.facts["tolerance"] < found.facts["with"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["Bart", "MBart", "Pegasus", "Marian", "M2M100", "T5"])
def test_translators_whose_padding_is_where_they_want_it_are_met_with_silence(name, call):
    if name in ("M2M100", "T5"):  # one skips the padding when it counts, the other's positions are relative
        assert watched(LEFT + call, model=translator(name)) == []
    assert watched(call.replace("left", "ids").replace("mask.flip(1)", "mask"), model=translator(name)) == []


@pytest.mark.parametrize("name", ["T5", "Bart", "Pegasus"])
def test_translating_without_a_mask_is_reported_where_the_library_makes_none(name):
    """transformers 5.2 and later make it for decoders only; ``pad_token_id`` is another token than the end."""
    model, ids = translator(name), torch.tensor(ROWS)
    settings = {"max_new_tokens": 1, "return_dict_in_generate": True, "output_logits": True}
    bare, masked = (model.generate(ids, **more, **settings) for more in ({}, {"attention_mask": (ids != 0).long()}))
    differs = float((bare.logits[0] - masked.logits[0]).abs().max()) > 1e-3
    call = "model.generate(ids, max_new_tokens=2)"
    assert [finding.facts["cause"] for finding in watched(call, model=model)] == ["mask"] * differs
    assert len(watched(call, patience=0.0, model=model)) == differs
    found = watched("model.generate(ids.flip(1), max_new_tokens=2)", model=model)
    assert bool(found) == (differs or name != "T5")


@pytest.mark.parametrize(
    ("told", "causes"),
    [
        ("", ["mask"]),
        (", pad_token_id=0", []),
        (", generation_config=settings", []),
        (", generation_config=settings, pad_token_id=0", []),
    ],
)
def test_a_decoder_makes_its_mask_only_of_a_padding_token_that_it_is_told(told, causes, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "made_up_tokenizer", tokenizer(), raising=False)
    model = made("llama", pad_token_id=None, eos_token_id=39)
    settings = tf.GenerationConfig(pad_token_id=0, eos_token_id=39, max_new_tokens=2)
    call = f"model.generate(ids.flip(1), max_new_tokens=2{told})"
    found = watched(call, model=model, tokenizer=tokenizer(), settings=settings)
    assert [finding.facts["cause"] for finding in found] == causes


@pytest.mark.parametrize("name", ["T5", "Bart"])
def test_a_mask_of_ones_is_said_of_generation_by_an_encoder_decoder_too(name):
    (found,) = watched(
        "model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3)", model=translator(name)
    )
    assert found.facts["cause"] == "contradicted"


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("Bert", BOTH),
        ("DistilBert", BOTH),
        ("Roberta", PLACE),
        ("RoFormer", PLACE),
        ("ModernBert", PLACE),
        ("Longformer", ""),  # its first place is the one that all others attend to
    ],
)
@pytest.mark.parametrize("labels", ["", ", labels=torch.tensor([0, 1])"])
def test_what_padding_on_the_left_does_to_a_model_is_told_apart(name, moved, labels):
    model = tiny(name, "ForSequenceClassification")
    (found,) = watched(f"model(ids.flip(1), attention_mask=mask.flip(1){labels})", model=model)
    if name == "DistilBert" and not takes_positions(model):  # in transformers 4
        moved = POSITIONS
    assert (found.facts["cause"], found.facts["moved"]) == ("side", moved)
    assert watched("model(ids, attention_mask=mask)", model=model) == []


def takes_positions(model):
    return "position_ids" in inspect.signature(model.forward).parameters


BODIES = ["Bert", "Electra", "Albert", "DebertaV2", "BigBird", "SqueezeBert", "DistilBert", "Roberta", "XLMRoberta"]  # fmt: skip
BODIES += ["Camembert", "RoFormer", "ModernBert", "XLNet", "GPT2", "GPTNeo", "OPT", "Bloom", "Llama", "Mistral", "Qwen2", "Phi", "GPTNeoX"]  # fmt: skip
COUNTING = {"Bert", "Electra", "Albert", "DebertaV2", "BigBird", "SqueezeBert", "DistilBert", "GPT2", "GPTNeo"}


@pytest.mark.parametrize("name", BODIES)
def test_models_that_count_padding_are_known_without_being_run(name):
    model, ids = tiny(name), torch.tensor(ROWS).flip(1)
    with torch.no_grad():
        behind = model(ids, attention_mask=(ids != 0).long())[0][1, 3:]
        alone = model(ids[1:, 3:])[0][0]
    assert counts_padding(model) == (float((behind - alone).abs().max()) > 1e-3) == (name in COUNTING)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Bert", "model(ids.flip(1), attention_mask=mask.flip(1))"),
        ("GPT2", "model(ids.flip(1), attention_mask=mask.flip(1))"),
        ("Bart", "model(ids.flip(1), attention_mask=mask.flip(1), decoder_input_ids=ids[:, :3])"),
        ("Marian", "model.generate(ids.flip(1), attention_mask=mask.flip(1), max_new_tokens=2)"),
    ],
)
def test_where_measuring_would_take_too_long_moved_positions_are_suspected(name, source):
    model = translator(name) if name == "Marian" else tiny(name)
    (found,) = watched(source, patience=0.0, model=model)
    assert "begin with padding" in found.top.message
    assert (found.facts["padded"], found.facts["unmeasured"]) == (1, "slow")


SKIP = "skip = (mask.flip(1).cumsum(1) - 1).clamp(min=0)\n"


@pytest.mark.parametrize(
    ("name", "source"),
    [
        *((name, "model(ids.flip(1), attention_mask=mask.flip(1))") for name in ("Llama", "OPT", "Bloom", "Roberta")),
        ("GPT2", SKIP + "model(ids.flip(1), attention_mask=mask.flip(1), position_ids=skip)"),
        ("Bert", "model(ids, attention_mask=mask)"),
        ("Bert", "model(ids[:1].flip(1), attention_mask=mask[:1])"),
    ],
)
def test_nothing_is_suspected_of_models_that_do_not_count_padding(name, source):
    assert watched(source, patience=0.0, model=tiny(name)) == []


def test_nothing_is_suspected_of_what_generation_puts_right():
    call = "model.generate(ids.flip(1), attention_mask=mask.flip(1), max_new_tokens=2)"
    for model in (made("gpt2"), made("llama"), made("t5")):
        assert watched(call, patience=0.0, model=model) == []


def test_a_model_that_reads_no_mask_is_not_told_to_pass_one():
    model = tiny("FNet", "ForSequenceClassification")
    assert watched("model(ids)", model=model) == [] == watched("model(ids)", patience=0.0, model=model)
