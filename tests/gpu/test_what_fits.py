"""What only a GPU shows of the batch search: the prediction against the card's own peak, and a card that really refuses.

Needs torch, transformers and pytest alone. Each test may use 2 GiB of the card; its batches are bounded, so that each takes seconds.
"""

from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

from tfdiag_ipython.probe import Scene  # noqa: E402
from tfdiag_ipython.probes.batch_search import predict  # noqa: E402
from tfdiag_ipython.probes.batch_trials import Work, find_fit  # noqa: E402
from tfdiag_ipython.probes.fits import FitsProbe  # noqa: E402

SHARE = 2 * 2**30
LENGTH = 128
SIZES = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


@pytest.fixture(autouse=True)
def share():
    """2 GiB of the card, all given back."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    if total < SHARE:
        pytest.skip("the card has less than 2 GiB")
    torch.cuda.set_per_process_memory_fraction(SHARE / total)
    yield
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


def model_of(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    words = {"vocab_size": 2000, **SIZES}
    decoder = {"vocab_size": 2000, "n_embd": 256, "n_layer": 4, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
    t5 = {"vocab_size": 2000, "d_model": 256, "d_ff": 512, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": 0}
    return {
        "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**words)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**decoder)),
        "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**t5)),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**words)),
        "vit": lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(image_size=64, patch_size=8, **SIZES)
        ),
    }[name]().cuda()


def batch_of(name, rows):
    if name == "vit":
        return {"pixel_values": torch.rand(rows, 3, 64, 64), "labels": torch.zeros(rows, dtype=torch.long)}
    ids = torch.randint(1, 2000, (rows, LENGTH))
    return {"input_ids": ids, "labels": ids}


def train(model, optimizer, batch):
    """A plain step, as a training loop has it."""
    outputs = model(**{key: value.cuda() for key, value in batch.items()})
    outputs.loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def runs(model, optimizer, batch):
    try:
        train(model, optimizer, batch)
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return False
    finally:
        optimizer.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
    return True


def told(model, optimizer):
    state = [value for values in optimizer.state.values() for value in values.values()]
    tensors = [*model.parameters(), *model.buffers(), *(one.grad for one in model.parameters() if one.grad is not None)]
    kept = [one.detach().cpu().clone() for one in (*tensors, *state) if isinstance(one, torch.Tensor)]
    return kept, torch.cuda.get_rng_state().clone(), torch.get_rng_state().clone()


def same(before, after):
    return len(before[0]) == len(after[0]) and all(
        torch.equal(one, other) for one, other in zip((*before[0], *before[1:]), (*after[0], *after[1:]), strict=True)
    )


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama", "vit"])
def test_the_peak_of_a_large_step_is_predicted_within_a_tenth(name):
    model, rows = model_of(name).train(), 48
    optimizer = torch.optim.AdamW(model.parameters())
    fit = find_fit(torch, model, batch_of(name, 3), Work(optimizer=optimizer), most=4)
    for _ in range(2):
        train(model, optimizer, batch_of(name, rows))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    train(model, optimizer, batch_of(name, rows))
    torch.cuda.synchronize()
    assert predict(fit.small, rows) == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.1)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_the_largest_batch_that_the_card_takes_is_found_in_four_trials(name):
    model = model_of(name).train()
    optimizer = torch.optim.AdamW(model.parameters())
    fit = find_fit(torch, model, batch_of(name, 3), Work(optimizer=optimizer))
    assert len(fit.trials) <= 4 and fit.rows > 8
    runs(model, optimizer, batch_of(name, 2))  # the optimizer's state, as in the second step of any training
    low, high = fit.rows, fit.rows * 2
    assert runs(model, optimizer, batch_of(name, low))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if runs(model, optimizer, batch_of(name, middle)) else (low, middle)
    assert fit.rows >= 0.95 * low


@pytest.mark.parametrize("state", [False, True])
def test_everything_on_the_card_is_as_it_was_after_refusals(state):
    model = model_of("bert").train()
    optimizer = torch.optim.AdamW(model.parameters())
    if state:
        train(model, optimizer, batch_of("bert", 2))
    model(**{key: value.cuda() for key, value in batch_of("bert", 2).items()}).loss.backward()
    batch = batch_of("bert", 3)  # random, too
    before = told(model, optimizer)
    filler = torch.empty(3 * SHARE // 4, dtype=torch.uint8, device="cuda")
    held = []
    for _ in range(2):  # the libraries' own workspaces stay from the first time on
        fit = find_fit(torch, model, batch, Work(optimizer=optimizer))
        assert fit.rows and same(before, told(model, optimizer))
        gc.collect()
        held.append(torch.cuda.memory_allocated())
    assert held[0] == held[1]
    del filler


def test_autocast_lets_more_fit():
    names = {"model": model_of("gpt2"), "batch": batch_of("gpt2", 3)}
    plain, cast = (
        FitsProbe().ask(f"model batch --optimizer torch.optim.AdamW {more}", Scene(names))["rows"]
        for more in ("", "--autocast float16")
    )
    assert cast > plain > 0


def test_a_limit_below_the_card_is_kept():
    seen = FitsProbe().ask(
        "model batch --no-grad --memory 300MiB", Scene({"model": model_of("bert"), "batch": batch_of("bert", 3)})
    )
    assert 0.85 * 300 * 2**20 < seen["held"] + seen["peak"] <= 300 * 2**20


def test_a_dead_context_is_not_touched():
    scene = Scene({"model": model_of("bert"), "batch": batch_of("bert", 3)}, cuda_dead=True)
    assert "CUDA is dead" in FitsProbe().ask("model batch", scene).missing
