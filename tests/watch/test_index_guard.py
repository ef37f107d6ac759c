"""The index guard: a bad index raises in Python, names itself, and leaves everything as it was; a good one is let through."""

import contextlib
import functools
import pickle
import subprocess
import sys
import threading
import warnings

import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

import tfdiag_ipython  # noqa: E402
from tfdiag_ipython.watch.index_guard import GuardedIndexError, GuardWarning  # noqa: E402

functional = torch.nn.functional
T = torch.tensor
TABLE = torch.nn.Embedding(4, 2)
SCORES = torch.zeros(3, 3)
X = torch.zeros(2, 3)
LONG = torch.arange(30.0).view(10, 3)

BAD = {
    "embedding": (
        lambda: TABLE(T([[1, 4]])),
        "embedding in Embedding: `input[0, 1]` is 4, and `weight` has 4 rows (0 to 3)",
    ),
    "negative id": (lambda: TABLE(T([-1])), "`input[0]` is -1"),
    "embedding_bag": (
        lambda: torch.nn.EmbeddingBag(4, 2)(T([[7]])),
        "embedding_bag in EmbeddingBag: `input[0, 0]` is 7",
    ),
    "cross_entropy": (
        lambda: functional.cross_entropy(SCORES, T([-100, 1, 3])),
        "cross_entropy: `target[2]` is 3, and `input` has 3 classes (0 to 2, or the ignored -100)",
    ),
    "another ignored value": (
        lambda: functional.cross_entropy(SCORES, T([-100, 1, -1]), ignore_index=-1),
        "`target[0]` is -100",
    ),
    "classes in dimension 1": (
        lambda: functional.cross_entropy(torch.zeros(1, 3, 2), T([[1, 3]])),
        "`target[0, 1]` is 3",
    ),
    "a single target": (lambda: functional.cross_entropy(torch.zeros(3), T(3)), "`target` is 3"),
    "nll_loss": (lambda: functional.nll_loss(SCORES, T([0, 0, -2])), "nll_loss: `target[2]` is -2"),
    "one_hot": (lambda: functional.one_hot(T([1, 3]), 3), "one_hot: `tensor[1]` is 3"),
    "one_hot counts": (lambda: functional.one_hot(T([1, -3])), "`tensor[1]` is -3, and classes count from 0."),
    "gather": (lambda: X.gather(1, T([[3]])), "gather: `index[0, 0]` is 3, and dimension 1 has 3 entries (0 to 2)"),
    "gather by name": (lambda: torch.gather(input=X, dim=-1, index=T([[-1]])), "`index[0, 0]` is -1, and dimension 1"),
    "scatter_": (lambda: X.clone().scatter_(1, T([[3]]), 1.0), "scatter_: "),
    "scatter_add": (lambda: X.scatter_add(0, T([[2]]), torch.ones(1, 1)), "dimension 0 has 2 entries"),
    "index_select": (lambda: X.index_select(0, T([2])), "index_select: `index[0]` is 2"),
    "index_add_": (lambda: X.clone().index_add_(0, T([-1]), torch.ones(1, 3)), "index_add_: `index[0]` is -1"),
    "take_along_dim": (lambda: torch.take_along_dim(X, T([[3]]), 1), "take_along_dim: `indices[0, 0]` is 3"),
    "take": (lambda: X.take(T([6])), "the tensor has 6 entries (-6 to 5)"),
    "x[index]": (lambda: X[T([0, 2])], "x[index]: `index[1]` is 2, and dimension 0 has 2 entries (-2 to 1)"),
    "x[:, index]": (lambda: X[:, T([3])], "`index[1][0]` is 3, and dimension 1"),
    "x[..., index]": (lambda: X[None, ..., T([3])], "dimension 1 has 3 entries"),
    "x[mask, index]": (lambda: X[T([True, False]), T([3])], "`index[1][0]` is 3, and dimension 1"),
    "x[list]": (lambda: X[[0, 2]], "`index[1]` is 2"),
    "x[list of numpy's]": (lambda: X[[numpy.int64(0), numpy.int64(2)]], "`index[1]` is 2, and dimension 0"),
    "x[list of numpy's, :]": (lambda: X[[numpy.int64(2)], :], "`index[0][0]` is 2, and dimension 0"),
    "x[range]": (lambda: X[range(3)], "`index[2]` is 2"),
    "x[unsigned array]": (lambda: X[numpy.array([0, 2], dtype="uint8")], "`index[1]` is 2"),
    "embedding with a largest norm": (lambda: torch.nn.Embedding(4, 2, max_norm=1.0)(T([5])), "`input[0]` is 5"),
    "take_along_dim of all": (lambda: torch.take_along_dim(X, T([-1])), "`indices[0]` is -1, and the tensor has 6"),
    "per-sample gradients": (
        lambda: torch.vmap(torch.func.grad(lambda w, i: torch.nn.functional.embedding(i, w).sum()), (None, 0))(
            TABLE.weight.detach(), T([0, 9])
        ),
        "is 9, and `weight` has 4 rows",
    ),
    "x[index] = 1": (lambda: X.clone().__setitem__(T([2]), 1.0), "x[index] = …: `index[0]` is 2"),
    "index_put": (lambda: X.clone().index_put_((T([0]), T([3])), T(1.0)), "`index[1][0]` is 3, and dimension 1"),
}
GOOD = {
    "embedding": lambda: TABLE(T([[0, 3]])),
    "no ids": lambda: TABLE(torch.empty(0, dtype=torch.long)),
    "meta": lambda: torch.nn.Embedding(4, 2, device="meta")(torch.empty(2, dtype=torch.long, device="meta")),
    "ignored": lambda: functional.cross_entropy(SCORES, T([-100, 1, 2])),
    "all ignored": lambda: functional.cross_entropy(SCORES, T([-100, -100, -100])),
    "another ignored value": lambda: functional.cross_entropy(SCORES, T([7, 1, 2]), ignore_index=7),
    "probabilities": lambda: functional.cross_entropy(SCORES, torch.full((3, 3), 5.0)),
    "from the end": lambda: X[T([-2, 1])],
    "a new dimension": lambda: X[None, :, T([2])],
    "a mask": lambda: X[X > 0],
    "slices": lambda: X[1, 0:2],
    "a list of numpy's": lambda: LONG[[numpy.int64(0), numpy.int64(5)]],
    "a list of an array's": lambda: LONG[list(numpy.array([0, 5]))],
    "a list of masks": lambda: X[[True, False]],
    "an empty list": lambda: X[[]],
    "a range": lambda: LONG[range(5)],
    "take from the end": lambda: X.take(T([-6])),
    "take_along_dim from the end": lambda: torch.take_along_dim(X, T([[-1]]), 1),
    "index_fill from the end": lambda: X.index_fill(0, T([-1]), 2.0),
    "one_hot counts": lambda: functional.one_hot(T([1, 3])),
    "a view": lambda: TABLE(torch.arange(8).view(2, 4)[:1].t()),
    "vmap": lambda: TABLE.weight[torch.arange(2)],
}


@pytest.fixture
def as_if_built_for_cuda(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)


@pytest.mark.parametrize("call, said", BAD.values(), ids=BAD)
def test_a_bad_index_is_named(call, said):
    with pytest.raises(IndexError) as raised:
        with tfdiag_ipython.guard():
            call()
    assert isinstance(raised.value, GuardedIndexError) and said in str(raised.value)


@pytest.mark.parametrize("call", GOOD.values(), ids=GOOD)
def test_a_good_index_gives_what_it_gives_without_the_guard(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error", GuardWarning)
        with tfdiag_ipython.guard():
            guarded = call()
    assert guarded.shape == call().shape
    assert guarded.is_meta or torch.equal(guarded.nan_to_num(), call().nan_to_num())


def test_the_call_is_not_made():
    target = torch.zeros(2)
    with pytest.raises(IndexError), tfdiag_ipython.guard():
        target.index_put_((T([0, 5]),), T(1.0))
    assert target.tolist() == [0, 0]


def test_a_training_step_is_the_same_with_and_without():
    def step():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(model(T([1, 8, 3])), T([0, 2, -100]))
        loss.backward()
        return [loss.detach(), *(parameter.grad for parameter in model.parameters())]

    plain = step()
    with tfdiag_ipython.guard() as watching:
        guarded = step()
    assert all(map(torch.equal, plain, guarded)) and watching.checked == 2


def test_the_module_is_named():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.ModuleDict({"words": torch.nn.Embedding(4, 2)})

        def forward(self, ids):
            return self.inner["words"](ids)

    with pytest.raises(IndexError, match=r"embedding in `inner\.words` of Net"), tfdiag_ipython.guard():
        Net()(T([9]))


def test_after_the_guard_torch_is_as_before_also_after_an_error():
    with pytest.raises(IndexError), tfdiag_ipython.guard():
        TABLE(T([9]))
    with pytest.raises(IndexError, match="index out of range in self"):
        TABLE(T([9]))


PLACES = [(torch, "gather"), (torch.Tensor, "gather"), (torch.Tensor, "__getitem__"), (torch._C._nn, "nll_loss_nd")]


def test_afterwards_pytorchs_functions_are_the_very_ones_of_before():
    before = [vars(owner).get(name) for owner, name in PLACES]
    with tfdiag_ipython.guard(), tfdiag_ipython.guard():
        assert [vars(owner).get(name) for owner, name in PLACES] != before
    assert all(vars(owner).get(name) is kept for (owner, name), kept in zip(PLACES, before, strict=True))


def test_a_reference_to_a_loss_that_was_taken_before_is_guarded_and_can_be_pickled():
    from torch.nn.functional import cross_entropy

    with tfdiag_ipython.guard():
        assert pickle.loads(pickle.dumps(cross_entropy)) is cross_entropy
        with pytest.raises(IndexError, match=r"`target\[0\]` is 9"):
            cross_entropy(SCORES, T([9, 0, 0]))


def test_a_guard_inside_a_guard_and_in_another_thread():
    with tfdiag_ipython.guard(), tfdiag_ipython.guard() as inner:
        TABLE(T([1]))
    assert inner.checked == 0
    said = []

    def work():
        try:
            TABLE(T([9]))
        except IndexError as error:
            said.append(str(error))

    with tfdiag_ipython.guard():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert said == ["index out of range in self"]  # a guard is its own thread's


FOR_GOOD = """
import torch, tfdiag_ipython
with tfdiag_ipython.guard():
    with torch.device("meta"):
        assert torch.zeros(2).is_meta
with torch.device("meta"):
    assert torch.zeros(2).is_meta and torch.arange(3).is_meta and torch.full((2,), 1).is_meta
torch.set_default_device("meta")
assert torch.ones(2).is_meta
for functions in torch.overrides.get_overridable_functions().values():
    assert not any(function.__code__.co_filename.endswith("guarded_functions.py") for function in functions if hasattr(function, "__code__"))
print("alike")
"""


def test_nothing_is_remembered_of_it_in_this_process():
    ran = subprocess.run([sys.executable, "-c", FOR_GOOD], capture_output=True, text=True, check=False)
    assert ran.stdout == "alike\n", ran.stderr


def test_a_function_of_the_persons_own_is_called_and_stays():
    with tfdiag_ipython.guard():
        pass
    called, before = [], torch.gather

    def own(*args):
        called.append(args)
        return before(*args)

    torch.gather = own
    try:
        with tfdiag_ipython.guard():
            torch.gather(X, 1, T([[0]]))
            with pytest.raises(GuardedIndexError):
                torch.gather(X, 1, T([[5]]))
        assert torch.gather is own and len(called) == 1
    finally:
        torch.gather = before


def test_functions_can_be_sent_to_other_processes():
    with tfdiag_ipython.guard():
        sent = [pickle.dumps(one) for one in (torch.stack, functools.partial(torch.gather, dim=1), torch.Tensor.gather)]
        assert pickle.loads(sent[0]) is torch.stack
    assert pickle.loads(sent[0]) is torch.stack and pickle.loads(sent[1]).func is torch.gather
    assert pickle.loads(sent[2]) is torch.Tensor.gather


class Handled(torch.Tensor):
    """Knows PyTorch's functions by their identity, as quantized tensors do."""

    TABLE = {torch.Tensor.gather: "gather", torch.Tensor.__getitem__: "item", torch.Tensor.view: "view"}

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return cls.TABLE.get(function, "?")


def test_classes_of_tensors_and_modes_are_handed_pytorchs_own_functions(as_if_built_for_cuda):
    handled, seen = torch.zeros(2, 3).as_subclass(Handled), []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(Handled.TABLE.get(function, "?"))
            return function(*args, **(kwargs or {}))

    good, bad = T([[0]]), T([9])
    with tfdiag_ipython.guard():
        assert (handled.gather(1, good), handled[bad], handled.view(-1)) == ("gather", "item", "view")
        with Mode():
            X.gather(1, good)
            with pytest.raises(GuardedIndexError):
                X[bad]
    assert seen == ["gather"]


def test_those_who_record_operations_do_not_see_a_look(as_if_built_for_cuda):
    from torch.fx import symbolic_trace
    from torch.fx.experimental.proxy_tensor import make_fx

    def rows(table, ids):
        return table.gather(0, ids) + table.view(-1)[ids]

    programs = []
    for guard in (contextlib.nullcontext(), tfdiag_ipython.guard()):
        with guard:
            recorded = make_fx(rows)(torch.arange(4.0), T([1, 2]))
            programs.append((symbolic_trace(rows).code, recorded.code))
    assert programs[0] == programs[1]


def test_one_guard_of_two_threads_may_end_first():
    inside, ended, said = threading.Event(), threading.Event(), []

    def work():
        with tfdiag_ipython.guard():
            inside.set()
            ended.wait(10)
            try:
                TABLE(T([9]))
            except IndexError as error:
                said.append(type(error))

    thread = threading.Thread(target=work)
    with tfdiag_ipython.guard():
        thread.start()
        inside.wait(10)
    ended.set()
    thread.join()
    assert said == [GuardedIndexError]
    assert "gather" not in vars(torch.Tensor)


@pytest.mark.hf
def test_transformers_generate_runs_under_the_guard():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=11, n_embd=8, n_layer=1, n_head=1, n_positions=16, eos_token_id=10, bos_token_id=10)
    )
    model.eval()
    ids = T([[1, 2, 3]])
    asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(ids, **asked)
    with tfdiag_ipython.guard() as watching:
        assert torch.equal(model.generate(ids, **asked), plain)
    assert watching.checked > 4
    with (
        pytest.raises(IndexError, match=r"in `transformer\.wpe` of GPT2LMHeadModel: `input\[0, 16\]` is 16"),
        tfdiag_ipython.guard(),
    ):
        model(torch.ones(1, 17, dtype=torch.long))
