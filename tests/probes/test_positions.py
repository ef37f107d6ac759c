"""How many tokens a model has positions for: one more fails in every architecture, and the failing call is read with both numbers."""

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes._positions import learned
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rules.idx._words import too_long

pytestmark = pytest.mark.hf
torch = pytest.importorskip("torch")
ENCODER = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
BOTH = {
    "vocab_size": 40,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 16,
}
GPT = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
NEO = {"vocab_size": 40, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "attention_types": [[["global"], 1]]}
DISTIL = {"vocab_size": 40, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": 16}
DIMENSIONS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16}
LED = {key: value for key, value in BOTH.items() if key != "max_position_embeddings"}
MODELS = {  # the configuration, and how many tokens fit
    "Bert": (ENCODER, 16),
    "Roberta": (ENCODER, 14),
    "XLMRoberta": (ENCODER, 14),
    "Camembert": (ENCODER, 14),
    "MPNet": (ENCODER, 14),
    "Longformer": ({**ENCODER, "attention_window": 4}, 14),  # which lengthens the ids
    "Esm": ({**ENCODER, "position_embedding_type": "absolute", "pad_token_id": 1}, 14),
    "IBert": (ENCODER, 14),  # its embedding is none of PyTorch's
    "Luke": ({**ENCODER, "entity_vocab_size": 4, "entity_emb_size": 16}, 14),
    "AltCLIPText": ({**ENCODER, "project_dim": 16}, 14),
    "DistilBert": (DISTIL, 16),
    "Albert": ({**ENCODER, "embedding_size": 16}, 16),
    "Electra": ({**ENCODER, "embedding_size": 16}, 16),
    "Deberta": (ENCODER, 16),
    "BigBird": ({**ENCODER, "attention_type": "original_full"}, 16),
    "Yoso": (ENCODER, 16),  # two rows more than it uses
    "LayoutLM": (ENCODER, 16),
    "CLIPText": (ENCODER, 16),
    "SiglipText": (ENCODER, 16),
    "GPT2": (GPT, 16),
    "OpenAIGPT": (GPT, 16),
    "GPTNeo": ({**NEO, "max_position_embeddings": 16}, 16),
    "OPT": ({**DIMENSIONS, "vocab_size": 40, "ffn_dim": 16, "word_embed_proj_dim": 16}, 16),
    "GPTJ": ({**GPT, "rotary_dim": 4}, 16),  # computed, but not for ever
    "CTRL": ({**GPT, "dff": 16}, 16),
    "Mpt": ({"vocab_size": 40, "d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 16}, 16),
    "Bart": (BOTH, 16),
    "MBart": (BOTH, 16),
    "Pegasus": (BOTH, 16),
    "Marian": ({**BOTH, "pad_token_id": 1}, 16),
    "LED": (
        {**LED, "max_encoder_position_embeddings": 16, "max_decoder_position_embeddings": 8, "attention_window": 4},
        16,
    ),
}


def model_of(name, config):
    import transformers

    made = getattr(transformers, f"{name}Config")(**config)
    return getattr(transformers, f"{name}Model")(made).eval()


def call(model, length):
    ids = torch.randint(3, 40, (2, length))
    given = {"decoder_input_ids": ids[:, :4]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        model(ids, **given)


def look(model, failing):
    with pytest.raises((IndexError, RuntimeError, ValueError)) as raised:
        failing()
    failure = Failure.from_exception(raised.value)
    seen = IndexTensorsProbe().look(failure, Scene({"model": model}, exception=raised.value))
    assert too_long(seen, failure.top.message)
    return seen["positions"]


@pytest.mark.parametrize("name", MODELS)
def test_what_fits_runs_and_one_token_more_is_too_long(name):
    config, most = MODELS[name]
    model = model_of(name, config)
    call(model, most)
    places = look(model, lambda: call(model, most + 1))
    assert (places["most"], places["length"], places["argument"]) == (most, most + 1, "input_ids")


def test_the_decoders_positions_are_its_own():
    model = model_of("LED", MODELS["LED"][0])
    ids = torch.randint(3, 40, (2, 9))
    model(ids, decoder_input_ids=ids[:, :8])
    places = look(model, lambda: model(ids, decoder_input_ids=ids))
    assert (places["most"], places["length"], places["argument"]) == (8, 9, "decoder_input_ids")


def test_positions_that_take_any_length_are_none():
    rope = model_of("Llama", ENCODER)
    call(rope, 20)
    assert learned(rope, torch) == 0


def test_a_bad_token_id_in_a_long_text_is_not_taken_for_its_length():
    rope = model_of("Llama", ENCODER)
    with pytest.raises(IndexError) as raised:
        rope(torch.full((1, 20), 40))
    failure = Failure.from_exception(raised.value)
    seen = IndexTensorsProbe().look(failure, Scene({"model": rope}, exception=raised.value))
    assert not too_long(seen, failure.top.message)


def test_what_generate_began_with_and_where_it_was_to_end():
    import transformers

    settings = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT, **settings))
    prompt = torch.randint(3, 40, (2, 10))
    model.generate(prompt, max_new_tokens=6)
    places = look(model, lambda: model.generate(prompt, max_new_tokens=9))
    assert (places["argument"], places["prompt"], places["length"], places["most"]) == ("generate", 10, 19, 16)
