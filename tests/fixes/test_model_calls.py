"""The mask goes into the calls on these inputs that pass none, and nowhere else."""

import pytest

from tfdiag_ipython.fixes.model_calls import Program, add_mask, calls_on, inputs_written, replace_mask

PROGRAM = Program("model", "batch", given=True)
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
    assert add_mask(before, PROGRAM, MASK) == (after or before)


@pytest.mark.parametrize(
    ("source", "masked"),
    [
        ('model(batch["input_ids"])', False),
        ('model(batch["input_ids"], attention_mask=None)', False),
        ('model(batch["input_ids"], batch["attention_mask"])', True),
        ("model(**batch.to(device))", True),
        ('model(batch["input_ids"], attention_mask=torch.ones_like(ids))', None),
        ("model(**{key: value for key, value in batch.items()})", None),
        ("model.generate(**batch)", True),
        ('model.generate(batch["input_ids"])', None),
        ('def old(model, batch):\n    return model(batch["input_ids"])', None),
        ('(lambda: model(batch["input_ids"]))()', None),
    ],
)
def test_only_what_the_source_shows_is_claimed(source, masked):
    assert [call.masked for call in calls_on(source, PROGRAM)] == [masked]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('model(batch["input_ids"], attention_mask=ones)', f'model(batch["input_ids"], attention_mask={MASK})'),
        ('model(batch["input_ids"].cuda(), ones)', f'model(batch["input_ids"].cuda(), {MASK}.cuda())'),
        ('model(batch["input_ids"], past, ones)', None),
        ("model(**batch)", None),
        ('def ask():\n    return model(batch["input_ids"], ones)', None),
    ],
)
def test_a_wrong_mask_is_replaced_where_one_is_written_and_a_fix_is_said_to_be_possible_only_there(before, after):
    assert replace_mask(before, PROGRAM, MASK) == (after or before)
    assert ["contradicted" in call.edits for call in calls_on(before, PROGRAM)] == [after is not None]


def test_a_call_over_several_lines_is_one_line_without_its_comments():
    (call,) = calls_on('scores = model(\n    batch["input_ids"],  # a = "#"\n    labels=None,\n)', PROGRAM)
    assert call.source == 'model( batch["input_ids"], labels=None, )'


def test_a_mask_of_none_is_replaced():
    after = add_mask('model(batch["input_ids"], attention_mask=None)', PROGRAM, MASK)
    assert after == f'model(batch["input_ids"], attention_mask={MASK})'


@pytest.mark.parametrize(
    ("source", "variable"),
    [
        ("scores = model(part['input_ids'].to(device)).logits", ("part", True)),
        ("preds.append(model(input_ids=part.input_ids))", ("part", True)),
        ("for part in loader: model(part)", ("part", False)),
        ("model.generate(**part, max_new_tokens=3)", ("part", True)),
        ("model(part['input_ids'], **others)", ("part", True)),
        ("model(rows[0])", None),
        ("model(a); model(b)", None),
        ("scores = model(", None),
    ],
)
def test_the_variable_whose_ids_a_line_passes(source, variable):
    assert inputs_written(source, "model") == variable
