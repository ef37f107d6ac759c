"""Whatever a training step does to a model and its optimizer is undone bit for bit, also when it fails halfway."""

import collections
import gc
import random
import signal
import weakref

import pytest

torch = pytest.importorskip("torch")

from tfdiag_ipython.probes.training_state import TrainingState, _bytes_of, uninterrupted  # noqa: E402

pytestmark = pytest.mark.hf


class Net(torch.nn.Module):
    """Dropout, batch normalization, tied weights, a frozen copy that follows, a counter, a cache and a list that grow."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(11, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.drop = torch.nn.Dropout(0.5)
        self.out = torch.nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight
        self.follower = torch.nn.Parameter(torch.ones(8), requires_grad=False)
        self.register_buffer("angles", torch.arange(8.0))
        self.calls = 0
        self.cache = None
        self.seen = []
        self.by_name = collections.OrderedDict(first=torch.zeros(2))

    def forward(self, ids, fail=False):
        self.calls += 1
        self.seen.append(self.calls)
        self.by_name["first"].add_(1)
        self.by_name["new"] = ids
        self.angles = self.angles * 2
        hidden = self.norm(self.drop(self.embed(ids)))
        self.cache = hidden
        self.extra = hidden
        with torch.no_grad():
            self.follower.mul_(0.5)
        random.random()
        if fail:
            raise MemoryError
        return self.out(hidden)


def made(state, gradients, kind="AdamW"):
    torch.manual_seed(0)
    model = Net()
    options = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(torch.optim, kind)([one for one in model.parameters() if one.requires_grad], lr=0.1, **options)
    if state:
        step(model, optimizer)
    if not gradients:
        optimizer.zero_grad(set_to_none=True)
    return model, optimizer


def step(model, optimizer, fail=False):
    model(torch.randint(0, 11, (6,)), fail).square().mean().backward()
    optimizer.step()
    torch.nn.functional.dropout(torch.ones(3))


def look(model, optimizer):
    """All that there is, as bytes and identities."""
    import numpy

    tensors = [*model.parameters(), *model.buffers(), *model.by_name.values()]
    state = {id(key): {name: told(one) for name, one in value.items()} for key, value in optimizer.state.items()}
    return (
        [(id(one), told(one), one.data_ptr(), one.requires_grad, one._version) for one in tensors],
        [(id(one.grad), told(one.grad)) for one in model.parameters()],
        state,
        [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups],
        [module.training for module in model.modules()],
        [sorted(vars(module)) for module in model.modules()],
        (model.calls, list(model.seen), id(model.seen), list(model.by_name), id(model.cache)),
        told(torch.get_rng_state()),
        random.getstate(),
        [str(part) for part in numpy.random.get_state()],
        (torch.is_grad_enabled(), torch.get_default_dtype()),
        model.out.weight is model.embed.weight,
    )


def told(value):
    if not isinstance(value, torch.Tensor):
        return value
    return (value.dtype, tuple(value.shape), bytes(value.detach().contiguous().view(-1).view(torch.uint8).tolist()))


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Adagrad", "RMSprop"])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_steps_leave_no_trace(state, gradients, kind):
    model, optimizer = made(state, gradients, kind)
    before = look(model, optimizer)
    with TrainingState(torch, model, optimizer):
        step(model, optimizer)
        model.eval()
        step(model, optimizer)
        optimizer.param_groups[0]["lr"] = 7
        model.out.weight.requires_grad_(False)
        torch.set_grad_enabled(False)
        assert look(model, optimizer) != before
    assert look(model, optimizer) == before


@pytest.mark.parametrize("state", [False, True])
def test_a_step_that_fails_leaves_no_trace(state):
    model, optimizer = made(state, True)
    before = look(model, optimizer)
    with pytest.raises(MemoryError), TrainingState(torch, model, optimizer):
        step(model, optimizer)
        step(model, optimizer, fail=True)
    assert look(model, optimizer) == before


def test_what_was_swapped_for_other_tensors_is_back_too():
    model, optimizer = made(True, True)
    before = look(model, optimizer)
    with TrainingState(torch, model, optimizer):
        model.norm.weight.data = torch.zeros(8)
        model.norm.running_mean = torch.ones(8)
        model.out.weight = torch.nn.Parameter(torch.zeros(11, 8))
        model.embed.weight.grad = torch.zeros(11, 8)
        optimizer.state.clear()
    assert look(model, optimizer) == before


def test_a_teacher_that_is_none_of_the_modules_is_put_back():
    model, teacher = torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout())
    model.teachers = [teacher]
    before = [told(one) for one in teacher.state_dict().values()]
    with TrainingState(torch, model):
        teacher(torch.rand(3, 4)).sum().backward()
        teacher.eval()
    assert [told(one) for one in teacher.state_dict().values()] == before
    assert teacher[1].training and all(one.grad is None for one in teacher.parameters())


def test_an_optimizer_within_an_optimizer_is_put_back():
    """As Accelerate's is made."""

    class Wrapped(torch.optim.Optimizer):
        def __init__(self, inner):
            self.optimizer = inner

        def step(self, closure=None):
            self.optimizer.step(closure)

    model, optimizer = made(False, True)
    before = look(model, optimizer)
    wrapped = Wrapped(optimizer)
    with TrainingState(torch, model, wrapped):
        step(model, wrapped)
        optimizer.param_groups[0]["lr"] = 7
        assert optimizer.state
    assert look(model, optimizer) == before


def test_another_default_device_changes_nothing():
    model, optimizer = made(True, True)
    before = look(model, optimizer)
    with TrainingState(torch, model, optimizer):
        step(model, optimizer)
        torch.set_default_device("meta")
    torch.set_default_device(None)
    assert look(model, optimizer) == before


def test_a_graph_built_before_still_runs_backward():
    model, optimizer = made(True, False)
    ids = torch.tensor([1, 2, 3])
    torch.manual_seed(1)
    loss = model(ids).sum()
    with TrainingState(torch, model, optimizer):
        step(model, optimizer)
    loss.backward()
    found = model.embed.weight.grad.clone()
    other, _ = made(True, False)
    torch.manual_seed(1)
    other(ids).sum().backward()
    assert torch.equal(found, other.embed.weight.grad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.int8])
def test_any_dtype_and_views_of_one_storage_are_put_back(dtype):
    model = torch.nn.Module()
    whole = torch.arange(24).to(dtype)
    model.register_buffer("left", whole[:12].view(3, 4).t())
    model.register_buffer("right", whole[6:])
    before = [told(one) for one in (whole, model.left, model.right)]
    with TrainingState(torch, model):
        whole.zero_()
    assert [told(one) for one in (whole, model.left, model.right)] == before


def test_nothing_is_held_afterwards():
    model, optimizer = made(True, True)
    state = TrainingState(torch, model, optimizer)
    with state:
        step(model, optimizer)
    watched = [weakref.ref(one) for one in (model, optimizer, model.embed.weight)]
    del model, optimizer
    gc.collect()
    assert [one() for one in watched] == [None] * 3


def test_stop_pressed_while_the_state_is_put_back_waits_for_its_end():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")
    assert done == ["whole"]


def test_a_disk_without_room_is_a_sentence(monkeypatch):
    model, optimizer = made(True, True)
    before = look(model, optimizer)
    monkeypatch.setattr("shutil.disk_usage", lambda _: collections.namedtuple("Usage", "free")(10))
    with pytest.raises(LookupError, match="no room on the disk"), TrainingState(torch, model, optimizer):
        step(model, optimizer)
    assert look(model, optimizer) == before


def test_a_copy_from_a_device_lives_until_its_bytes_are_written():
    """Found on a GPU: what ``cpu()`` had copied was freed while it was being written, and other bytes were put back."""
    copy = torch.arange(200, dtype=torch.uint8)
    alive = weakref.ref(copy)
    written = _bytes_of(copy)
    del copy
    assert alive() is not None and bytes(written) == bytes(range(200))
    del written
    assert alive() is None
