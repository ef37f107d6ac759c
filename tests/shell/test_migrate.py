"""``%tfdiag migrate`` in a real shell, and its panel in a real kernel."""

import pytest

from tests.render.test_panel import Page, kernel  # noqa: F401
from tests.shell.pack import FAILS

OLD = "from transformers import Trainer, TrainingArguments"
ARGUMENTS = "def make(model, tokenizer):\n    return Trainer(model, TrainingArguments('out', no_cuda=True), tokenizer=tokenizer)"


def test_before_any_cell_and_without_anything_to_do(run):
    assert run("%tfdiag migrate") == "tfdiag: no cell has been run yet.\n"
    assert run("x = 1  # AdamW", "%tfdiag migrate").startswith("Nothing that transformers 5 removed")


def test_the_cells_that_were_run_are_listed_with_their_edits(run):
    run("%%bash\ntrue", "def f(:", f"if False:\n    {OLD}", ARGUMENTS)
    shown = run("%tfdiag migrate")
    assert shown.splitlines()[0] == "2 uses of what transformers 5 removed or renamed; safe edits for 2 of 2"
    assert "cell 4, line 2: `tokenizer` of Trainer is now `processing_class`\n      → `processing_class=`" in shown
    assert "cell 4, line 2: `no_cuda` of TrainingArguments is now `use_cpu`" in shown
    assert "Skipped, because it is not Python that can be read: cell 2." in shown
    assert "MIGRATION_GUIDE_V5.md (Trainer)" in shown


def test_a_function_of_the_same_name_is_left_alone(run):
    shown = run("def Trainer(*a, **k): pass", "Trainer(tokenizer=1)", "%tfdiag migrate")
    assert shown.startswith("Nothing that transformers 5")


def test_the_diff_is_one_and_changes_nothing(run, shell):
    set_it = "def keep():\n    os.environ['TRANSFORMERS_CACHE'] = 'x'"
    shown = run("import os", set_it, "x = os.getenv('TRANSFORMERS_CACHE')", "%tfdiag migrate --diff")
    assert shown.count("+++ cell") == 2
    assert "-    os.environ['TRANSFORMERS_CACHE'] = 'x'\n+    os.environ['HF_HUB_CACHE'] = 'x'" in shown
    assert shell.user_ns["x"] is None and shell.history_manager.input_hist_raw[2] == set_it


def test_only_the_newest_version_of_a_cell_counts(run):
    source = "import os\nfolder = os.getenv('TRANSFORMERS_CACHE')"
    shown = run(source, source, "%tfdiag migrate")
    assert shown.startswith("1 that runs on and means something else; safe edits for 1 of 1")
    assert "cell 2, line 2" in shown


def test_it_is_a_diagnosis_like_others_and_can_be_shown_and_explained_again(run):
    run("import os\nfolder = os.getenv('TRANSFORMERS_CACHE')", "%tfdiag migrate")
    assert "API002 written-for-version-4" in run("%tfdiag")
    assert "# API002 written-for-version-4" in run("%tfdiag explain API002")
    assert "the variable TRANSFORMERS_CACHE is ignored" in run("%tfdiag probe migration")


def test_it_works_after_a_failure(run):
    shown = run("import os\nfolder = os.getenv('TRANSFORMERS_CACHE')", FAILS, "%tfdiag migrate")
    assert "safe edits for 1 of 1" in shown


@pytest.mark.hf
def test_a_live_tokenizer_is_known_wherever_it_came_from(run):
    pytest.importorskip("transformers")
    make = (
        "def load():\n    from tokenizers import Tokenizer, models\n    from transformers import PreTrainedTokenizerFast\n"
        "    words = Tokenizer(models.WordLevel({'a': 0}, unk_token='a'))\n"
        "    return PreTrainedTokenizerFast(tokenizer_object=words)\n"
    )
    shown = run(make + "tok = load()", "def encode(text):\n    return tok.encode_plus(text)", "%tfdiag migrate --diff")
    assert "+    return tok(text)" in shown


@pytest.mark.kernel
@pytest.mark.hf
def test_the_panel_previews_one_diff_applies_it_and_undoes_it(kernel):  # noqa: F811
    pytest.importorskip("transformers")
    page = Page(kernel)
    page.run("%load_ext tfdiag_ipython")
    page.run("import os\nold = os.getenv('TRANSFORMERS_CACHE', 'none')")
    page.run("os.environ['HF_HUB_CACHE'] = 'here'")
    (listing, panel) = page.run("%tfdiag migrate")
    assert listing["data"]["text/plain"].startswith("1 that runs on and means something else")
    assert "application/vnd.jupyter.widget-view+json" in panel["data"]
    page.click("Migrate 1 cell (safe)")
    assert "<del>-old = os.getenv(&#x27;TRANSFORMERS_CACHE" in page.markup() and page.value("old") == "none"
    assert "Then runs again, in this order: cell" in page.text()
    page.click("Apply")
    assert "Verified: Cell" in page.text()
    page.click("Undo")
    assert page.value("old") == "none"
