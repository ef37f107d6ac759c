"""A guessed name is the one that was meant, or is asked for, or none is named."""

import pytest

from tfdiag_ipython.probes.nearest import distance, guess, with_a_word


@pytest.mark.parametrize(
    ("one", "other", "slips"),
    [("shape", "shape", 0), ("shap", "shape", 1), ("shaep", "shape", 1), ("sahep", "shape", 2), ("ca", "abc", 3), ("", "ab", 2)],
)  # fmt: skip
def test_slips_are_counted_in_both_directions(one, other, slips):
    assert distance(one, other, 5) == distance(other, one, 5) == slips
    assert distance(one, other, 1) == min(slips, 2)


@pytest.mark.parametrize(
    ("asked", "known", "meant"),
    [
        ("reshpe", ("reshape", "reshape_as"), "reshape"),
        ("tensr", ("Tensor", "tensor"), "tensor"),  # capitals decide between the two
        ("Tensr", ("Tensor", "tensor"), "Tensor"),
        ("LLaMAModel", ("LlamaModel", "MllamaModel"), "LlamaModel"),
        ("attetnion_masks", ("attention_mask",), "attention_mask"),
        ("bais", ("bias", "base"), "bias"),
    ],
)
def test_one_name_alone_is_near(asked, known, meant):
    found = guess(asked, known)
    assert found.sure and found.names[0] == meant


@pytest.mark.parametrize(
    ("asked", "known", "named"),
    [
        ("RobertModel", ("RobertaModel", "RoCBertModel"), ("RobertaModel", "RoCBertModel")),  # equally near
        ("lerp", ("lerp_",), ("lerp_",)),  # in place
        ("items", ("item",), ("item",)),  # of a dictionary
        ("vconcat", ("concat",), ("concat",)),
        ("close", ("clone",), ("clone",)),
        ("save_model", ("base_model",), ("base_model",)),
        ("chunks", ("Chunk",), ("Chunk",)),  # a function was asked for
        ("Attention", ("attention",), ("attention",)),  # a class was, and this is a module
        ("Generaton", ("generation",), ("generation",)),
    ],
)
def test_what_may_be_another_word_is_never_sure(asked, known, named):
    found = guess(asked, known)
    assert found.names == named and not found.sure


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("len", ("le", "lt")),  # too short
        ("astype", ("type",)),
        ("generate", ("can_generate",)),
        ("min_tokens", ("max_new_tokens",)),
        ("Llama4Model", ("Llama3Model",)),  # another generation
        ("k_proj", ("q_proj",)),
        ("layer_c", ("layer_a", "layer")),
        ("OptModel", ("MptModel",)),  # another family
    ],
)
def test_another_name_is_not_guessed(asked, known):
    assert not guess(asked, known)


def test_a_nearer_name_that_is_ruled_out_makes_the_next_one_unsure():
    assert guess("DeepseekV3xConfig", ("DeepseekV3Config",)).sure is False  # a label more
    assert guess("GemmapConfig", ("Gemma2Config", "GemmaConfig")).sure is False


def test_names_with_one_word_more_are_asked_for():
    known = ("per_device_train_batch_size", "per_device_eval_batch_size", "max_new_tokens")
    assert set(with_a_word("per_device_batch_size", known).names) == set(known[:2])
    assert with_a_word("max_tokens", known).names == ("max_new_tokens",) and not with_a_word("max_tokens", known).sure
    assert not with_a_word("size", known)
