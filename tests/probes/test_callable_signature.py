"""The parameters come from the library's callable that the message names, and a guess is made only where one name is near."""

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.callable_signature import CallableSignatureProbe

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
    assert seen["nearest"][0] == "learning_rate" and seen["clear"]


def test_two_names_equally_near_are_no_answer():
    pytest.importorskip("transformers")
    seen = look("from transformers import TrainingArguments\nTrainingArguments('out', per_device_batch_size=1)")
    assert {"per_device_train_batch_size", "per_device_eval_batch_size"} <= set(seen["nearest"]) and not seen["clear"]


def test_a_function_of_the_program_is_left_alone():
    assert not look("def fit(learning_rate): pass\nfit(learning_rat=1)")
