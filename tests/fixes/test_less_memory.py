"""Edits that need less memory: where they go, what they say, and that the measured peak is told."""

import pytest

from tfdiag_ipython.diagnosis import Status
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.allocator import allocator_variable, expandable_segments
from tfdiag_ipython.fixes.less_memory import given_arguments, set_training
from tfdiag_ipython.testing import PlainHost

MADE = "class TrainingArguments:\n    def __init__(self, **given):\n        self.given = given\n"


def program(*cells):
    host = PlainHost()
    for source in cells:
        host.add(source)
    return host


def test_arguments_are_read_from_the_one_call_that_makes_them():
    cells = program(MADE, "arguments = TrainingArguments(output_dir='x', optim='sgd')").cells
    assert given_arguments(cells) == {"": "cell 2", "output_dir": "'x'", "optim": "'sgd'"}
    assert given_arguments(program(MADE, "more = {}\nTrainingArguments(**more)").cells) == {}
    assert given_arguments(program(MADE, "TrainingArguments(a=1)\nTrainingArguments(a=2)").cells) == {}


def test_an_edit_is_run_and_its_peak_measured():
    host = program(
        MADE,
        "arguments = TrainingArguments(batch=2)",
        "held = bytearray(2 ** 26 if 'small' not in arguments.given else 8)\nif 'small' not in arguments.given: raise MemoryError",
    )
    plan = set_training(host.scene(), {"small": "True"}, "Smaller.")
    assert "+arguments = TrainingArguments(batch=2, small=True)" in plan.preview().text
    plan.execute(Progress())
    verification = plan.verify(Progress())
    assert verification.status is Status.VERIFIED
    assert "Measured peak: " in verification.detail and "until it failed: " in verification.detail


def test_the_allocators_setting_goes_above_the_first_import_of_torch_and_waits_for_the_next_start():
    host = program("x = 1", "from torch import nn\ny = 2", "import torch")
    plan = expandable_segments(host.scene())
    assert plan.sources == (
        'import os\n\nos.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"\nfrom torch import nn\ny = 2',
    )
    assert "restart the kernel" in plan.preview().note
    assert "for the next start" in plan.execute(Progress())
    assert plan.verify(Progress()).status is Status.NOT_CHECKED
    compile(plan.sources[0], "cell", "exec")


def test_a_program_that_sets_it_already_is_told_so():
    host = program("import os\nos.environ['PYTORCH_CUDA_ALLOC_CONF'] = 'x'\nimport torch")
    with pytest.raises(PlanError, match="before torch is imported"):
        expandable_segments(host.scene())
    with pytest.raises(PlanError, match="No cell that was run imports torch"):
        expandable_segments(program("x = 1").scene())


def test_the_name_that_every_torch_reads():
    assert (allocator_variable(), allocator_variable(hip=True)) == ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
