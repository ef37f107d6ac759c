"""Modules and classes are recognized under the names that the program gave them."""

from __future__ import annotations

import pytest

from tfdiag_ipython.diagnosis import Status
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.imports import move_symbol
from tfdiag_ipython.fixes.less_memory import training_call
from tfdiag_ipython.fixes.source import calls_to, replace_symbol, set_arguments
from tfdiag_ipython.testing import PlainHost


def notebook(*sources: str) -> PlainHost:
    host = PlainHost()
    for source in sources:
        host.add(source)
    return host


@pytest.mark.parametrize(
    ("imports", "call"),
    [
        ("from fractions import Fraction as Part", "Part(numerator=1)"),
        ("import fractions as f_", "f_.Fraction(numerator=1)"),
        ("from fractions import Fraction\nPart = Fraction", "Part(numerator=1)"),
        (
            "from functools import partial\nfrom fractions import Fraction\nmake = partial(Fraction)",
            "make(numerator=1)",
        ),
    ],
)
def test_a_class_under_another_name_is_called(imports, call):
    host = notebook(imports, f"part = {call}  # mine", "1 / (part - part)")
    wanted = calls_to("fractions.Fraction" if call.startswith("f_") else "Fraction")
    plan = edit_cells(host.scene(), lambda source: set_arguments(source, wanted, {"denominator": "2"}), apart=True)
    assert plan.sources == (f"part = {call[:-1]}, denominator=2)  # mine",)


def test_names_of_a_module_under_another_name_are_replaced():
    host = notebook("import fractions as fr", "fr.Fractoin(1)")
    plan = edit_cells(host.scene(), lambda source: replace_symbol(source, "Fractoin", "Fraction", module="fractions"))
    assert plan.sources == ("fr.Fraction(1)",)
    host = notebook("import fractions as fr", "fr.Decimal(1)")
    moved = edit_cells(
        host.scene(), lambda source: move_symbol(source, "Decimal", "Decimal", module="fractions", new_module="decimal")
    )
    assert moved.sources == ("import decimal\n\ndecimal.Decimal(1)",)


def test_the_arguments_of_this_training_are_found_under_an_alias_beside_those_of_another():
    host = notebook(
        "class Made(dict): pass\nimport sys, types\nsys.modules['made_up'] = types.ModuleType('made_up')\n"
        "sys.modules['made_up'].TrainingArguments = Made",
        "from made_up import TrainingArguments as TA",
        "args = TA(per_device_train_batch_size=8)",
        "other = TA(per_device_train_batch_size=4)",
        "dict(args)\n1 / 0",
    )
    found = training_call(host.cells)
    assert found is not None and found[1].label == "cell 3"


def test_an_argument_that_a_dictionary_gives_is_not_given_twice():
    host = notebook(
        "options = dict(numerator=1, denominator=3)", "from fractions import Fraction", "1 / (Fraction(**options) - 1)"
    )
    host.namespace["options"]["denominator"] = 1
    wanted = calls_to("Fraction")
    plan = edit_cells(host.scene(), lambda source: set_arguments(source, wanted, {"denominator": "2"}), apart=True)
    assert plan.sources == ('1 / (Fraction(**{**options, "denominator": 2}) - 1)',)
    assert plan.verify(Progress()).status is Status.VERIFIED
