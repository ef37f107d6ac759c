"""Undo gives back what a name was bound to, and holds nothing large or alive for it."""

import collections
import functools
import gc
import itertools
import weakref

import pytest

from tfdiag_ipython.bindings import MOST_OBJECTS, Bindings, keepable


def test_names_are_bound_as_they_were_and_new_ones_are_gone():
    namespace = {"size": 1, "kept": "x", "_cache": {"mine": 1}, "_": 0, "Out": {}}
    before = Bindings(namespace)
    namespace |= {"size": 2, "new": [3], "_cache": {}, "_": 5, "Out": {1: 5}}
    before.settle()
    assert before.restore() == ["_cache", "new", "size"]
    assert namespace == {"size": 1, "kept": "x", "_cache": {"mine": 1}, "_": 5, "Out": {1: 5}}


def test_two_runs_are_taken_back_to_what_was_before_the_first():
    namespace = {"a": 1}
    first = Bindings(namespace)
    namespace["a"] = 2
    first.settle()
    second = Bindings(namespace)
    namespace |= {"a": 3, "b": 4}
    second.settle()
    second.follow(first)
    second.restore()
    assert namespace == {"a": 1}


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError("the person's code must not run")

    @property
    def __dict__(self):
        raise RuntimeError("the person's code must not run")


class Meta(type):
    @property
    def __module__(cls):
        raise RuntimeError("the person's code must not run")


class OfMeta(metaclass=Meta):
    pass


@pytest.mark.parametrize("value", [1, "text", None, [1, {"a": (2, 3)}], int, gc, len, collections.OrderedDict, {"x"}])
def test_small_plain_values_are_kept(value):
    assert keepable(value)


def test_whatever_may_hold_tensors_files_or_frames_is_not_kept():
    class Holder:
        pass

    class Slots:
        __slots__ = ("value",)

    held = [1]
    values = [ValueError("no"), Holder(), Slots(), (x for x in held), functools.partial(print, held), iter(held)]
    values += [lambda: held, collections.deque(held), held.append, Hostile(), OfMeta(), OfMeta, b"0" * 2_000_000]
    for value in values:
        assert not keepable(value) and not keepable([{"a": value}])


def test_a_large_namespace_is_looked_at_within_bounds():
    left = [MOST_OBJECTS]
    kept = [keepable([0] * 1_000, left) for _ in range(100)]
    assert kept[0] and not kept[-1] and left[0] > -100


def test_an_object_that_was_not_bound_anew_is_not_held():
    class Own:
        pass

    namespace = {"own": Own(), "plain": [1], "size": 1}
    gone = weakref.ref(namespace["own"])
    before = Bindings(namespace)
    namespace["size"] = 2
    before.settle()
    count = itertools.count()
    del namespace["own"]
    gc.collect()
    assert gone() is None and next(count) == 0 and before.restore() == ["size"]


def test_a_value_that_took_the_place_of_the_one_before_in_memory_is_another_one():
    class Own:
        pass

    namespace = {"own": Own()}
    number = id(namespace["own"])
    before = Bindings(namespace)
    namespace["own"] = None  # its memory is free now
    found = next((one for one in [Own() for _ in range(1_000)] if id(one) == number), None)
    if found is None:
        pytest.skip("this interpreter put none in its place")
    namespace["own"] = found
    before.settle()
    assert before.lost == ["own"]


@pytest.mark.hf
def test_tensors_and_models_are_not_kept_alive():
    import torch

    class Model(torch.nn.Module):
        pass

    namespace = {"model": Model(), "batch": {"ids": torch.zeros(3)}, "sum": torch.zeros(3).sum, "rate": 0.1}
    gone = weakref.ref(namespace["model"])
    before = Bindings(namespace)
    namespace |= {"model": None, "batch": None, "sum": None, "rate": 0.2}
    before.settle()
    gc.collect()
    assert gone() is None
    assert (before.lost, before.restore()) == (["batch", "model", "sum"], ["rate"])
