"""The padding watch and the comparison with a model on a CUDA device: nothing waits for the device while the cell runs.

Needs torch, transformers and pytest only: ``python -m pytest tests/gpu/test_padding.py``. Takes seconds, and 5 % of the card at most.
"""

import linecache
import warnings

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
from tfdiag_ipython.probe import Scene  # noqa: E402
from tfdiag_ipython.probes.padding import PaddingProbe  # noqa: E402
from tfdiag_ipython.watch.padding import PaddingWatch  # noqa: E402

ROWS = [[2, 5, 7, 9, 4, 3], [2, 8, 3, 0, 0, 0]]


@pytest.fixture(autouse=True)
def small_share():
    """A small part of the card, given back."""
    torch.cuda.set_per_process_memory_fraction(0.05)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def made(name, dtype=torch.float32):
    """A tiny random model on the device."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 128, "initializer_range": 0.3, "pad_token_id": 0}
    decoder = {"vocab_size": 40, "n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 32, "initializer_range": 0.3}
    decoder |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    model = {
        "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**sizes)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**decoder)),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)),
    }[name]()
    return model.to("cuda", dtype).eval()


def watched(source, model):
    """The findings of a cell that runs under the watch."""
    ids = torch.tensor(ROWS, device="cuda")
    namespace = {"model": model, "ids": ids, "mask": (ids != 0).long(), "torch": torch}
    file = "<ipython-input-1-watched>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    watch = PaddingWatch()
    watch.start()
    try:
        exec(compile(source, file, "exec"), namespace)
    finally:
        found = watch.stop(Scene(namespace, live=True))
    return found


def test_the_watch_itself_waits_for_nothing():
    """What the watch adds to a call is called alone: models wait for the device by themselves where they make masks."""
    model, ids = made("bert"), torch.tensor(ROWS, device="cuda")
    watch = PaddingWatch(every=True)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for mask in (None, torch.ones_like(ids)):
            ended = watch._see("__call__", model, (), {"input_ids": ids, "attention_mask": mask})
            assert ended is not None
            ended()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(watch.calls()) == 2


def test_a_watched_call_waits_no_more_than_the_call_by_itself():
    """How often a call makes the host wait, as CUDA itself reports it: the same with the watch and without."""
    model, ids = made("bert"), torch.tensor(ROWS, device="cuda")
    counts = []
    for watching in (False, True):
        watch = PaddingWatch()
        if watching:
            watch.start()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                model(ids)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            watch.calls()
        counts.append(sum("synchroniz" in str(warning.message) for warning in heard))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("name", "source", "cause"),
    [
        ("bert", "model(ids)", "mask"),
        ("bert", "model(ids, attention_mask=torch.ones_like(ids))", "contradicted"),
        ("gpt2", "model(ids.flip(1), attention_mask=mask.flip(1))", "positions"),
        ("llama", "model.generate(ids, attention_mask=mask, max_new_tokens=2, do_sample=False)", "generation"),
    ],
)
def test_wrong_answers_are_found_when_the_cell_has_ended(name, source, cause):
    (found,) = watched(source, made(name))
    assert found.facts["cause"] == cause


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_of_each_dtype_on_the_device_is_told_from_padding(dtype):
    (found,) = watched("model(ids)", made("bert", dtype))
    assert found.facts["with"] <= found.facts["tolerance"] < found.facts["asgiven"]
    for name in ("gpt2", "llama"):
        assert watched("model(ids)", made(name, dtype)) == []
    assert watched("model(ids, attention_mask=mask)", made("bert", dtype)) == []


def test_a_mask_for_each_pair_of_places_is_the_persons_own_matter():
    pairs = "pairs = mask[:, None, None, :].expand(2, 1, 6, 6).bool() & torch.ones(6, 6, device='cuda').tril().bool()"
    assert watched(f"{pairs}\nmodel(ids.flip(1), attention_mask=pairs.flip(3))", made("llama")) == []


def test_random_states_and_flags_on_the_device_are_as_before():
    model = made("bert").train()
    ids = torch.tensor(ROWS, device="cuda")
    state, flags = torch.cuda.get_rng_state(), [module.training for module in model.modules()]
    seen = PaddingProbe().ask("model ids", Scene({"model": model, "ids": ids.cpu()}))  # moved to the model's device
    assert seen["cause"] == "mask" and torch.equal(torch.cuda.get_rng_state(), state)
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_of_it_stays_on_the_device():
    model = made("bert")
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    watched("model(ids)", model)
    assert torch.cuda.memory_allocated() <= before


@pytest.mark.parametrize(("calls", "where"), [(20, "i >= 8"), (300, "i > 150"), (300, "i == 299"), (300, "i % 2")])
def test_padding_that_begins_late_in_a_loop_is_found(calls, where):
    """Every call is kept there, for ids are not read before the cell has ended; of a long loop, a sample."""
    loop = "full = torch.arange(3, 9, device='cuda').repeat(2, 1)\n"
    loop += f"for i in range({calls}):\n    model(ids if {where} else full)"
    (found,) = watched(loop, made("bert"))
    assert found.facts["cause"] == "mask"


def test_a_long_loop_keeps_few_of_its_batches_on_the_device():
    loop = """
with torch.no_grad():
    for i in range(200):
        rows = torch.full((256, 64), 5, device="cuda")
        small(rows[:1, :4])
        if i == 20:
            before = torch.cuda.memory_allocated()
    after = torch.cuda.memory_allocated()
small.config.grown = after - before
"""
    model = made("bert")
    watched(loop.replace("small", "model"), model)
    assert model.config.grown < 20 * 256 * 64 * 8


def test_moved_positions_are_found_and_those_of_rotary_models_are_not():
    left = "model(ids.flip(1), attention_mask=mask.flip(1))"
    (found,) = watched(left, made("bert"))
    assert (found.facts["cause"], found.facts["moved"]) == ("side", "both")
    assert watched(left, made("llama")) == []
