"""Undo gives back what a name was bound to, unless the person has bound it since, and never holds a tensor for it."""

import gc
import weakref

import pytest

from tfdiag_ipython.bindings import Bindings, keepable


def test_names_are_bound_as_they_were_and_new_ones_are_gone():
    namespace = {"size": 1, "kept": "x"}
    before = Bindings(namespace)
    namespace |= {"size": 2, "new": [3]}
    before.settle()
    assert before.restore() == ["new", "size"]
    assert namespace == {"size": 1, "kept": "x"}


def test_what_the_person_bound_since_is_left_alone():
    namespace = {"size": [1], "name": "old"}
    before = Bindings(namespace)
    namespace |= {"size": [2], "name": "fixed"}
    before.settle()
    namespace["size"] = [2]  # equal, and yet another object
    assert (before.since, before.restore()) == (["size"], ["name"])
    assert namespace == {"size": [2], "name": "old"}


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError("the person's code must not run")


@pytest.mark.parametrize("value", [1, "text", None, [1, {"a": (2, 3)}], int, gc, lambda: 1, {"x"}])
def test_small_values_are_kept(value):
    assert keepable(value)


def test_an_object_whose_attributes_raise_is_only_looked_at():
    assert keepable(Hostile())


def test_large_values_and_what_holds_frames_are_not_kept():
    class Holder:
        def __init__(self, value):
            self.value = value

    def holding(value):
        return lambda: value

    generator = (x for x in [1])
    for value in (list(range(5_000)), b"0" * 2_000_000, ValueError("no"), generator):
        for wrapped in (value, [value], {"a": value}, Holder(value), holding(value), Holder(value).__init__):
            assert not keepable(wrapped), wrapped


@pytest.mark.hf
def test_tensors_and_models_are_not_kept_alive():
    import torch

    class Model(torch.nn.Module):
        pass

    namespace = {"model": Model(), "batch": {"ids": torch.zeros(3)}, "device": torch.device("cpu"), "rate": 0.1}
    gone = weakref.ref(namespace["model"])
    before = Bindings(namespace)
    namespace |= {"model": None, "batch": None, "rate": 0.2}
    before.settle()
    gc.collect()
    assert gone() is None
    assert (before.lost, before.restore()) == (["batch", "model"], ["rate"])
