"""``%tfdiag probe fits``: the prediction against what PyTorch's allocator measures, a limit that really refuses, and bad input."""

import gc
import os
import random
import resource
import signal
import subprocess
import sys
import weakref
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

from tests.probes.test_training_state import look, made  # noqa: E402
from tfdiag_ipython.fix import Cancelled  # noqa: E402
from tfdiag_ipython.probe import Scene  # noqa: E402
from tfdiag_ipython.probes.batch_search import predict  # noqa: E402
from tfdiag_ipython.probes.batch_trials import Work, find_fit  # noqa: E402
from tfdiag_ipython.probes.fits import FitsProbe  # noqa: E402

pytestmark = [pytest.mark.hf, pytest.mark.usefixtures("small_steps")]
SIZES = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
IMAGES = {key: value for key, value in SIZES.items() if key != "vocab_size"} | {"image_size": 32, "patch_size": 8}
T5 = {
    "vocab_size": 100,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
GPT2 = {"vocab_size": 100, "n_embd": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}


class Recurrent(torch.nn.Module):
    """No Transformers model: an LSTM that gives a dictionary."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(100, 64)
        self.lstm = torch.nn.LSTM(64, 128, 2, batch_first=True, dropout=0.1)
        self.head = torch.nn.Linear(128, 100)

    def forward(self, input_ids, labels):
        logits = self.head(self.lstm(self.embed(input_ids))[0])
        return {"loss": torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def model_of(name):
    import transformers

    torch.manual_seed(0)
    return {
        "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
        "t5": lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
        "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**IMAGES)),
        "lstm": Recurrent,
    }[name]()


def batch_of(name, rows):
    if name == "vit":
        return {"pixel_values": torch.rand(rows, 3, 32, 32), "labels": torch.zeros(rows, dtype=torch.long)}
    ids = torch.randint(1, 100, (rows, 32))
    return {"input_ids": ids, "labels": ids}


def measured(work):
    """The peak that PyTorch's own profiler saw its allocator reach: not what the probe itself measures with."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    held = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama", "vit", "lstm"])
def test_the_peak_of_a_large_step_is_predicted_from_two_small_ones(name, trains):
    model, rows = model_of(name), 96
    optimizer = torch.optim.AdamW(model.parameters())
    inputs = batch_of(name, rows)

    def step():
        batch = {key: value.clone() for key, value in inputs.items()}
        if not trains:
            with torch.no_grad():
                return model(**batch)
        outputs = model(**batch)
        outputs["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    work = Work(optimizer=optimizer) if trains else Work(gradients=False)
    fit = find_fit(torch, model, batch_of(name, 3), work, most=4)
    assert [trial.rows for trial in fit.small] == [2, 4]
    model.train(trains)
    step()
    assert predict(fit.small, rows) == pytest.approx(measured(step), rel=0.1)


CHILD = """
import resource, gc, torch
from tfdiag_ipython.probes.batch_trials import Work, find_fit
from tfdiag_ipython.probes.memory_room import room_on
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.BatchNorm1d(512), torch.nn.Linear(512, 64))
optimizer = torch.optim.AdamW(model.parameters())
inputs = torch.rand(3, 256)

def step(rows):
    outputs = model(inputs[torch.arange(rows) % 3])
    outputs.float().sum().backward()
    optimizer.step()
    optimizer.zero_grad()

def runs(rows):
    try:
        step(rows)
    except (MemoryError, RuntimeError) as error:
        assert "allocate" in str(error), error
        return False
    finally:
        optimizer.zero_grad()
        gc.collect()
    return True

find_fit(torch, model, inputs, Work(optimizer=optimizer), most=4)
step(2)
free = 100 * 2**20
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + free, resource.RLIM_INFINITY))
weights = [one.detach().clone() for one in model.parameters()]
fit = find_fit(torch, model, inputs, Work(optimizer=optimizer))
assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters()))
low, high = fit.rows // 2, fit.rows * 2
while high - low > fit.rows // 200:
    middle = (low + high) // 2
    low, high = (middle, high) if runs(middle) else (low, middle)
print(fit.rows, low, len(fit.trials), sum(bool(trial.refused) for trial in fit.trials), fit.limit)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses memory beyond a process's limit")
def test_under_a_limit_that_refuses_the_largest_batch_is_found_in_four_trials():
    # glibc would keep freed blocks in pieces, so that what is "largest" changed from step to step
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    rows, largest, trials, _, limit = done.stdout.strip().split(maxsplit=4)
    assert int(rows) >= 0.95 * int(largest) and int(trials) <= 4
    assert limit == "this process's limit (RLIMIT_AS)"


def ask(arguments, **names):
    return FitsProbe().ask(arguments, Scene(names))


def test_it_tells_the_largest_batch_its_trials_and_the_limit():
    seen = ask(
        "model batch --optimizer torch.optim.AdamW --memory 32MiB", model=model_of("bert"), batch=batch_of("bert", 3)
    )
    told = {observation.what: observation for observation in seen.seen}
    assert not seen.missing and 1 <= len(seen["trials"]) <= 4
    assert told["largest batch"].value == f"{seen['rows']} rows"
    assert "backward, AdamW.step" in told["largest batch"].source
    assert "32 MiB, as you said" in told["room for a step"].source
    assert seen["held"] + seen["peak"] <= 32 * 2**20 < (seen["held"] + seen["peak"]) * 1.06
    assert sum(what.startswith("trial ") for what in told) == len(seen["trials"])


def test_inference_fits_more_and_accumulation_less():
    names = {"model": model_of("bert"), "batch": batch_of("bert", 3)}
    rows = [ask(f"model batch --memory 8MiB {more}", **names)["rows"] for more in ("--no-grad", "", "--accumulate")]
    assert rows[0] > rows[1] > rows[2] > 0


@pytest.mark.parametrize("arguments", ["--optimizer optimizer", "", "--no-grad", "--accumulate --optimizer optimizer"])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_everything_is_as_it_was(state, gradients, arguments):
    model, optimizer = made(state, gradients)
    model.drop.eval()
    before = look(model, optimizer)
    seen = ask(
        f"model ids --memory 2MB --at-most 300 {arguments}", model=model, ids=torch.arange(6), optimizer=optimizer
    )
    assert seen["rows"] > 4, seen.missing
    assert look(model, optimizer) == before


@pytest.mark.parametrize("last", [1, 2, 4])
@pytest.mark.parametrize("refuses", [MemoryError, lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), None])
def test_everything_is_as_it_was_when_steps_are_refused(refuses, last):
    """A model that refuses from some batch on, as a device does; ``None``: PyTorch's own allocator refuses it."""
    model, optimizer = made(True, True)
    handle = model.drop.register_forward_pre_hook(lambda _, given: refuse(given[0].shape[0]))

    def refuse(rows):
        if rows > last:
            torch.empty(2**60) if refuses is None else raises(refuses())

    def raises(error):
        raise error

    before = look(model, optimizer)
    seen = ask("model ids --at-most 64 --optimizer optimizer", model=model, ids=torch.arange(6), optimizer=optimizer)
    assert look(model, optimizer) == before
    if last > 1:
        assert seen["rows"] == last
    else:  # batch normalization takes no single row
        assert seen.missing.startswith("2 rows are refused for memory (")
        assert "one row cannot be tried (ValueError: Expected more than 1 value per channel" in seen.missing
    handle.remove()


@dataclass
class Outputs:
    scores: object
    more: object = None


class Plain(torch.nn.Module):
    """Outputs of any shape; Stop can be pressed in a chosen call."""

    def __init__(self, wrap=lambda scores: scores, stop=0):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.wrap, self.stop, self.calls = wrap, stop, 0

    def forward(self, values):
        self.calls += 1
        if self.calls == self.stop:
            signal.raise_signal(signal.SIGINT)
        return self.wrap(self.layer(values))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: (s, None), lambda s: [None, {"a": s}], Outputs])
def test_outputs_of_any_kind_will_do(wrap):
    seen = ask("model batch --at-most 50", model=Plain(wrap), batch=torch.rand(2, 4))
    assert seen["rows"] == 50
    assert any("no loss" in observation.value for observation in seen.seen)


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_stop_leaves_everything_as_it_was(call):
    model, batch = Plain(stop=call), torch.rand(2, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    before = [one.detach().clone() for one in model.parameters()], torch.get_rng_state(), random.getstate()
    with pytest.raises(Cancelled, match="You stopped it"):
        ask("model batch --optimizer optimizer", model=model, batch=batch, optimizer=optimizer)
    assert all(torch.equal(old, new) for old, new in zip(before[0], model.parameters(), strict=True))
    assert torch.equal(before[1], torch.get_rng_state()) and random.getstate() == before[2]
    assert not optimizer.state and all(one.grad is None for one in model.parameters()) and model.calls == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("ends", ["fits", "refused", "fails", "stopped"])
def test_nothing_is_held_afterwards(ends):
    def refuse(scores):
        raise {"refused": MemoryError, "fails": ValueError}[ends]

    model = Plain(refuse if ends in {"refused", "fails"} else lambda s: s, stop=2 if ends == "stopped" else 0)
    batch = torch.rand(2, 4)
    try:
        ask("model batch --at-most 9", model=model, batch=batch)
    except Cancelled:
        pass
    watched = weakref.ref(model), weakref.ref(batch)
    del model, batch
    gc.collect()
    assert [one() for one in watched] == [None, None]


def test_where_one_row_alone_fits_it_is_found():
    def alone(scores):
        if len(scores) > 1:
            raise MemoryError
        return scores

    seen = ask("model batch", model=Plain(alone), batch=torch.rand(2, 4))
    told = {observation.what: observation.value for observation in seen.seen}
    assert (seen["rows"], told["largest batch"]) == (1, "1 row")


def put_hook(kind, model, optimizer, hook):
    {
        "forward": lambda: model.layer.register_forward_hook(hook),
        "backward": lambda: model.layer.register_full_backward_hook(hook),
        "parameter": lambda: model.layer.weight.register_hook(hook),
        "accumulated": lambda: model.layer.weight.register_post_accumulate_grad_hook(hook),
        "optimizer": lambda: optimizer.register_step_post_hook(hook),
    }[kind]()


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("kind", ["forward", "backward", "parameter", "accumulated", "optimizer", None])
def test_hooks_of_the_persons_own_are_told_and_counted(kind):
    model, calls = Plain(), []
    optimizer = torch.optim.SGD(model.parameters())
    if kind:
        put_hook(kind, model, optimizer, lambda *_: calls.append(1))
    names = {"model": model, "batch": torch.rand(2, 4), "optimizer": optimizer}
    seen = ask("model batch --at-most 50 --optimizer optimizer", **names)
    notes = [observation.value for observation in seen.seen if "hooks" in observation.value]
    assert [f"in each of the {len(calls)} steps" in note for note in notes] == [True] * bool(kind)


def test_what_the_garbage_collector_looks_through_is_as_it_was():
    gc.unfreeze()
    at_first = gc.get_freeze_count()
    ask("model batch --at-most 9", model=Plain(), batch=torch.rand(2, 4))
    ask("model batch --at-most 9", model=Plain(), batch=torch.rand(2, 5))  # fails
    assert gc.get_freeze_count() == at_first
    gc.freeze()  # as a person may
    ask("model batch --at-most 9", model=Plain(), batch=torch.rand(2, 4))
    assert gc.get_freeze_count() > at_first


def test_the_limit_of_the_process_is_as_it_was():
    before = resource.getrlimit(resource.RLIMIT_AS)
    ask("model batch --at-most 9", model=Plain(), batch=torch.rand(2, 4))
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8], "text": "a film"},
        {"input_ids": torch.tensor([5, 6, 7, 8]), "labels": torch.tensor([5, 6, 7, 8])},
        {"input_ids": [[5, 6, 7, 8]] * 3, "labels": [[5, 6, 7, 8]] * 3},
    ],
)
def test_a_single_example_and_lists_of_numbers_will_do(inputs):
    seen = ask("model inputs --at-most 40", model=model_of("gpt2"), inputs=inputs)
    assert seen["rows"] == 40, seen.missing
    assert "input_ids 4, labels 4" in {observation.what: observation.value for observation in seen.seen}["a row"]


def test_a_recurrent_layer_has_its_rows_along_the_second_dimension():
    model, inputs = torch.nn.LSTM(4, 8), torch.rand(7, 3, 4)
    row = {one.what: one.value for one in ask("model inputs --at-most 9", model=model, inputs=inputs).seen}["a row"]
    assert row.startswith("0 7×4")
