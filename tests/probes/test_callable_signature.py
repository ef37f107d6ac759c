"""The parameters come from the library's callable that the message names, and a guess is made only where one name is near."""

import pytest

from tfdiag_ipython.engine import Engine
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.callable_signature import CallableSignatureProbe
from tfdiag_ipython.registry import load_registry
from tfdiag_ipython.testing import PlainHost

pytestmark = pytest.mark.hf


def look(code):
    space = {}
    try:
        exec(code, space)
    except TypeError as error:
        return CallableSignatureProbe().look(Failure.from_exception(error), Scene(space, exception=error))
    raise AssertionError("nothing was raised")


def test_the_class_is_found_under_another_name():
    pytest.importorskip("transformers")
    seen = look("import transformers as t\nA = t.TrainingArguments\nA('out', learning_rat=1)")
    assert seen["nearest"][0] == "learning_rate" and seen["sure"]


def test_two_names_equally_near_are_no_answer():
    pytest.importorskip("transformers")
    seen = look("from transformers import TrainingArguments\nTrainingArguments('out', per_device_batch_size=1)")
    assert {"per_device_train_batch_size", "per_device_eval_batch_size"} <= set(seen["nearest"]) and not seen["sure"]


def test_a_function_of_the_program_is_left_alone():
    assert not look("def fit(learning_rate): pass\nfit(learning_rat=1)")


OTHER = """
import sys, types, transformers
lightning = types.ModuleType("lightning")
exec("class Trainer:\\n    def __init__(self, epochs=1): pass", vars(lightning))
lightning.Trainer.__module__ = "lightning.pytorch"
"""


@pytest.mark.parametrize(
    "call", ["lightning.Trainer(tokenizer=1)", "Trainer = lightning.Trainer\nTrainer(tokenizer=1)"]
)
def test_another_librarys_class_of_the_same_name_is_left_alone(call):
    pytest.importorskip("transformers")
    from transformers import Trainer  # noqa: F401  loaded, as in a notebook that uses both

    assert not look(OTHER + call)
    host = PlainHost()
    host.add(OTHER)
    result = host.add(call)
    assert Engine(load_registry()).diagnose(result.failure, host.scene()) == []
