"""``%%tfdiag`` catches what raises nothing: padded ids without a mask, in programs that really run."""

import pytest

pytestmark = pytest.mark.hf
pytest.importorskip("transformers")

SETUP = """
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
sizes = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(BertConfig(**sizes, initializer_range=0.5)).eval()
ids = torch.tensor([[2, 5, 7, 9, 11, 3], [2, 8, 3, 0, 0, 0]])
batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine must not decide what is measured."""
    monkeypatch.setenv("TFDIAG_PATIENCE", "600")


QUIET = "unmasked padding in cell 2: nothing to report."


@pytest.mark.parametrize(
    "cell",
    [
        'logits = model(batch["input_ids"]).logits',
        "logits = model(input_ids=ids)",
        "for row in [ids[:1], ids]:\n    model(row)",
        "def predict(network, rows):\n    return network(rows.clone()).logits\npredict(model, ids)",
    ],
)
def test_a_padded_call_without_a_mask_is_measured_and_said(run, cell):
    shown = run(SETUP, f"%%tfdiag\n{cell}")
    assert "PAD001" in shown and "confirmed" in shown and "in cell 2" in shown


def test_padding_on_the_left_is_said_to_move_the_positions_too(run):
    shown = run(SETUP, "%%tfdiag\nleft = ids.flip(1)\nmodel.train()\nmodel(left)")
    assert "PAD008" in shown and "confirmed" in shown and "display-only] Pad on the right" in shown
    told = " ".join(shown.split())
    assert "counts positions from the start of the row" in told and "pass the mask, too" in told


def test_of_a_model_that_skips_padding_when_it_counts_nothing_else_is_said(run):
    """RoBERTa's positions are right; its head answers from the first place, which is padding."""
    made = "from transformers import RobertaConfig, RobertaForSequenceClassification as Roberta\n"
    made += "model = Roberta(RobertaConfig(**sizes, initializer_range=0.5, pad_token_id=0)).eval()"
    left = "%%tfdiag\nmodel(ids.flip(1), attention_mask=batch['attention_mask'].flip(1))"
    told = " ".join(run(SETUP, made, left).split())
    assert "PAD008" in told and "the answer is read from padding" in told
    assert "counts positions" not in told and "moves their positions" not in told and "mask, too" not in told


@pytest.mark.parametrize(
    "cell",
    [
        "model(**batch)",
        "model(ids, batch['attention_mask'])",
        "model(ids[:1])",
        "model(inputs_embeds=torch.zeros(1, 3, 16))",
        "model.bert.embeddings(ids)",
        "decoder = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1, pad_token_id=0)).eval()\ndecoder(ids)",
    ],
)
def test_what_is_right_or_harmless_stays_quiet(run, cell):
    shown = run(SETUP, f"%%tfdiag\n{cell}")
    assert "PAD" not in shown and QUIET in shown


def test_a_call_behind_padding_on_the_left_that_would_take_long_to_measure_is_one_click_away(run):
    named = "back = {'input_ids': ids.flip(1), 'attention_mask': batch['attention_mask'].flip(1)}"
    shown = run(SETUP, named, "%tfdiag config patience=0", "%%tfdiag\nlogits = model(**back).logits")
    assert "PAD008" in shown and "possible" in shown and "[safe] Measure it now" in shown
    assert "probe padding model back" in " ".join(shown.split())


SLOW = "hook = model.register_forward_pre_hook(lambda *_: time.sleep(0.3))"


@pytest.mark.parametrize(("before", "patience"), [("pass", 0), (SLOW, 1)])
def test_where_measuring_would_take_long_it_is_only_suspected(run, before, patience):
    cells = f"import time\n{before}", f"%tfdiag config patience={patience}", "%%tfdiag\nlogits = model(ids).logits"
    shown = run(SETUP, *cells)
    assert "PAD001" in shown and "possible" in shown and "%tfdiag probe padding model ids`" in " ".join(shown.split())
    assert "[safe] Measure it now" in shown


def test_a_first_call_that_takes_longer_than_all_others_is_measured_all_the_same(run):
    shown = run(
        SETUP,
        f"import time\n{SLOW.replace('0.3', '3')}",
        "%tfdiag config patience=8",
        "%%tfdiag\nlogits = model(ids).logits\nhook.remove()",
    )
    assert "PAD001" in shown and "confirmed" in shown


def test_a_cell_that_fails_is_not_measured(run):
    shown = run(SETUP, "%%tfdiag\nmodel(ids)\n{}['key']")
    assert "KeyError" in shown and "PAD001" not in shown


def test_training_state_is_as_the_cell_left_it(run, shell):
    run(SETUP, "%%tfdiag\nmodel.train()\nmodel(ids)\nstate = torch.get_rng_state()")
    model, torch = shell.user_ns["model"], shell.user_ns["torch"]
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), shell.user_ns["state"])
    assert "__call__" not in type(model).__mro__[2].__dict__


def test_neither_model_nor_ids_are_kept_alive(run, shell):
    import gc
    import weakref

    run(SETUP, "%%tfdiag\nwith torch.no_grad():\n    logits = model(ids).logits")
    gone = [weakref.ref(shell.user_ns.pop(name)) for name in ("model", "ids")]
    shell.user_ns.pop("batch")
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_the_fix_is_a_button_only_where_the_observed_call_itself_can_be_edited(run):
    by_hand = run(SETUP, "model(ids);", "%%tfdiag\n(lambda network, rows: network(rows))(model, ids);")
    edited = run("%%tfdiag\nlogits = model(ids).logits")
    assert "[display-only] Pass the attention mask" in by_hand and "[unsafe] Pass the attention mask" in edited


def test_every_cell_is_watched_between_on_and_off(run):
    assert "every cell for unmasked padding" in run(SETUP, "%tfdiag on padding")
    assert "watch     padding" in run("%tfdiag config")
    assert "PAD001" in run("logits = model(ids).logits") and "PAD001" in run("again = model(ids).logits")
    assert run("right = model(**batch).logits") == ""  # nothing is said of a cell that is well
    assert "KeyError" in run("{}['key']")
    assert "PAD001" not in run("%tfdiag off padding", "logits = model(ids).logits")


def test_a_session_can_begin_with_every_cell_watched(bare, capsys):
    bare.config.TfdiagSettings.watch = {"padding"}
    bare.run_line_magic("load_ext", "tfdiag_ipython")
    bare.run_cell(SETUP)
    bare.run_cell("logits = model(ids).logits")
    bare.run_line_magic("unload_ext", "tfdiag_ipython")
    assert "PAD001" in capsys.readouterr().out


def test_on_and_off_themselves_are_as_before_and_a_wrong_name_is_a_sentence(run, shell):
    assert "tfdiag is on" in run("%tfdiag on") and "tfdiag is off" in run("%tfdiag off")
    assert "Did you mean padding?" in run("%tfdiag on paddin")


def test_a_cell_with_options_of_its_own_is_watched_for_both(run):
    shown = run(SETUP, "%tfdiag on padding", "%%tfdiag --watch warnings\nlogits = model(ids).logits")
    assert "PAD001" in shown


def test_generation_and_a_mask_of_ones_are_said_under_their_own_codes(run):
    decoder = "decoder = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None, pad_token_id=0, initializer_range=0.5)).eval()"
    shown = run(SETUP, decoder, "%%tfdiag\nout = decoder.generate(**batch, max_new_tokens=2)")
    assert "PAD004" in shown and "confirmed" in shown and "warning" not in shown.partition("PAD004")[2]
    assert "PAD007" in run("%%tfdiag\nlogits = model(ids, attention_mask=torch.ones_like(ids)).logits")


@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
def test_what_the_rows_cannot_tell_the_library_says_and_a_rule_knows_it(run, kind):
    """One token more than the other row: padding, or the end of a text before it. transformers words it by model and version."""
    sizes = "dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)"
    made = (
        f"import transformers as tf\nkind = tf.{kind}Config(**{sizes}, pad_token_id=2, eos_token_id=2, bos_token_id=1)"
    )
    made += "\nmodel = tf.AutoModelForCausalLM.from_config(kind)\nids = torch.tensor([[2, 5, 6, 7], [4, 5, 6, 7]])"
    shown = run(SETUP, made, "%%tfdiag\nout = model.generate(ids, max_new_tokens=2)")
    assert shown.count("PAD005") == 1 and "likely" in shown and "no rule knows" not in shown
