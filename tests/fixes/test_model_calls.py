"""The mask goes into the calls on these inputs that pass none, and nowhere else."""

import pytest

from tfdiag_ipython.fixes.model_calls import add_mask

MASK = 'batch["attention_mask"]'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('model(batch["input_ids"])  # why', f'model(batch["input_ids"], attention_mask={MASK})  # why'),
        ("model(input_ids=batch.input_ids)", f"model(input_ids=batch.input_ids, attention_mask={MASK})"),
        (
            "model(batch['input_ids'].to(device))",
            f"model(batch['input_ids'].to(device), attention_mask={MASK}.to(device))",
        ),
        ('model(other["input_ids"])', None),
        ("model(**batch)", None),
        ('model(batch["input_ids"], **more)', None),
        ('model(batch["input_ids"], mask)', None),
        ('model(batch["input_ids"], attention_mask=mine)', None),
        ('teacher(batch["input_ids"])', None),
        ('model.generate(batch["input_ids"])', None),
        ("text = 'model(batch[\"input_ids\"])'", None),
    ],
)
def test_only_the_unmasked_calls_on_these_inputs_change(before, after):
    assert add_mask(before, "model", "batch", MASK, given=True) == (after or before)


def test_inputs_that_hold_no_mask_get_one_beside_them():
    after = add_mask("model(**batch)", "model", "batch", "mask", given=False)
    assert after == "model(attention_mask=mask, **batch)"
