"""What is offered after a shortage on a GPU, from a recorded ledger: by cause, and with the bytes that each should save."""

import pytest

from tfdiag_ipython.api import registry
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.failure import Failure, Frame, Raised
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.memory import MemoryProbe

GIB = 2**30
TOLD = "CUDA out of memory. Tried to allocate 496.00 MiB. GPU 0 has a total capacity of 15.00 GiB of which 235.06 MiB is free."
FORWARD = Frame("/x/torch/nn/modules/linear.py", "forward", 9)
STEP = Frame("/x/torch/optim/adamw.py", "step", 9)
LOADED = Frame("/x/transformers/modeling_utils.py", "from_pretrained", 9)
TRAINING = {
    "trains": True,
    "batch": {"call": "TrainingArguments", "size": 16, "steps": 1, "cell": "cell 3"},
    "given": {"": "cell 3"},
    "checkpoints": "activation_checkpointing",
    "precision": "bf16",
    "ledgers": {
        "cuda:0": {"parameters": GIB, "gradients": GIB, "optimizer": 2 * GIB, "other": 10 * GIB, "total": 15 * GIB}
    },
}


def offered(frame, **facts):
    raised = Raised(("torch.OutOfMemoryError", "builtins.RuntimeError"), TOLD, frames=(frame,))
    known = {MemoryProbe.name: Evidence({**TRAINING, **facts})}
    found = Engine(registry()).diagnose(Failure("exception", (raised,)), known=known)[0]
    return {fix.label: fix.explanation for fix in found.fixes}


def test_a_large_batch_has_four_remedies_each_with_what_it_should_save():
    fixes = offered(FORWARD)
    assert "%tfdiag probe fits" in fixes.pop("Find the largest batch that fits")
    assert list(fixes) == [
        "per_device_train_batch_size=8, gradient_accumulation_steps=2",
        "activation_checkpointing=True",
        "bf16=True",
        'optim="adafactor"',
    ]
    saved = ["5 GiB", "7.5 GiB", "4 GiB", "2 GiB"]
    for size, told in zip(saved, fixes.values(), strict=True):
        assert told.startswith(f"Predicted to save about {size}. Edits cell 3")


def test_where_optimizers_in_8_bits_are_installed_they_are_offered():
    assert offered(STEP, eight_bit=True)['optim="adamw_bnb_8bit"'].startswith("Predicted to save about 1.5 GiB.")


def test_a_smaller_batch_is_not_offered_where_it_does_not_help():
    assert list(offered(STEP)) == ['optim="adafactor"']
    assert not any("batch" in label or "checkpoint" in label for label in offered(LOADED))


@pytest.mark.parametrize("given", [{"bf16": "True"}, {"fp16": "True"}])
def test_what_the_program_does_already_is_not_offered(given):
    assert "bf16=True" not in offered(FORWARD, given={"": "cell 3", **given})
    assert "activation_checkpointing=True" not in offered(FORWARD, given={"": "c", "gradient_checkpointing": "True"})
