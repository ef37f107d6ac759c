"""What is found in a program, and what is left alone: uses, not words. No library is needed for any of this."""

import pytest

from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.errors import InputError
from tfdiag_ipython.migrate import migrate
from tfdiag_ipython.migrate.program import LIMIT
from tfdiag_ipython.probe import Cell


def look(*sources, live=None):
    return migrate([Cell(number, source) for number, source in enumerate(sources, start=1)], live)


def titles(*sources, live=None):
    return [finding.title for finding in look(*sources, live=live).findings]


@pytest.mark.parametrize(
    "sources",
    [
        ("# from transformers import AdamW\nprint('TrainingArguments(evaluation_strategy=1)')",),
        ("from torch.optim import AdamW\nAdamW([])",),
        ("import transformers", "def AdamW(x): pass\nAdamW([])"),
        ("from keras import Trainer\nTrainer(tokenizer=1)",),
        ("class TrainingArguments: pass\nTrainingArguments(evaluation_strategy=1)",),
        ("class Mine:\n    def encode_plus(self, x): pass\ntokenizer = Mine()\ntokenizer.encode_plus('a')",),
        ("def f(tokenizer):\n    return tokenizer.encode_plus('a')",),
        ("from .transformers import AdamW\nAdamW([])",),
        ("from transformers_interpret import AdamW\nAdamW([])",),
        ("from transformers import *\nAdamW = print\nAdamW([])",),
        (
            "try:\n    from transformers import AdamW\nexcept ImportError:\n    from torch.optim import AdamW\nAdamW([])",
        ),
        (
            "from transformers import TrainingArguments\ntry:\n    a = TrainingArguments('o', eval_strategy='no')\n"
            "except TypeError:\n    a = TrainingArguments('o', evaluation_strategy='no')",
        ),
        ("from transformers import AutoTokenizer\nt = AutoTokenizer.from_pretrained('x')\nt = open('f')\nt.words()",),
        ("{}['TRANSFORMERS_CACHE']\nenviron = {}\nenviron['TRANSFORMERS_CACHE']",),
        ("%%bash\nfrom transformers import AdamW",),
        ("from transformers import AutoTokenizer\nt = AutoTokenizer.from_pretrained('x')\nt('a').word_ids()",),
    ],
)
def test_left_alone(sources):
    assert titles(*sources) == []


def test_a_name_bound_again_means_what_the_last_binding_says():
    found = look(
        "from transformers import AdamW\nfirst = AdamW([])", "from torch.optim import AdamW\nsecond = AdamW([])"
    )
    assert found.sources() == {0: "from torch.optim import AdamW\nfirst = AdamW([], eps=1e-6, weight_decay=0.0)"}


def test_an_import_in_one_cell_counts_in_the_next():
    found = look(
        "import transformers as hf\nfrom transformers import Trainer as T, AutoTokenizer",
        "tok = AutoTokenizer.from_pretrained('x')",
        "class Mine(T):\n    pass\nMine(m, hf.TrainingArguments('o', no_cuda=True), tokenizer=tok)\nx = tok.encode_plus('a')",
    )
    assert found.sources() == {
        2: "class Mine(T):\n    pass\nMine(m, hf.TrainingArguments('o', use_cpu=True), processing_class=tok)\nx = tok('a')"
    }


def test_a_live_variable_says_what_the_cells_do_not():
    assert titles("batch = loaded().encode_plus('a')\nt.encode_plus('a')") == []
    assert titles("t = load()\nt.encode_plus('a')", live={"t": "tokenizer"}) == [
        "`.encode_plus` of a tokenizer is gone since 5.0"
    ]
    assert titles("def f(t):\n    t.encode_plus('a')", live={"t": "tokenizer"}) == []


def test_magics_comments_and_layout_survive():
    source = (
        "%%time\n%matplotlib inline\n!pip install x  # AdamW\nfrom transformers import (\n    AdamW,  # the optimizer\n"
        "    Trainer,  # the loop\n)\nfiles = !ls\n\n\n# train\noptimizer = AdamW(\n    model.parameters(),  # all\n    lr=1e-3,\n)"
    )
    (new,) = look(source).sources().values()
    assert new == (
        "%%time\n%matplotlib inline\n!pip install x  # AdamW\nfrom transformers import (\n    Trainer,  # the loop\n)\n"
        "from torch.optim import AdamW\nfiles = !ls\n\n\n# train\noptimizer = AdamW(\n    model.parameters(),  # all\n"
        "    lr=1e-3,\n    eps=1e-6,\n    weight_decay=0.0,\n)"
    )


def test_a_needed_import_is_added_once_where_it_is_missing():
    load = "m = hf.AutoModel.from_pretrained('x', load_in_8bit=True, dtype='auto')"
    found = look("import transformers as hf", load, load.replace("m =", "n ="))
    first, second = (source.splitlines() for source in found.sources().values())
    assert (
        first[0] == "from transformers import BitsAndBytesConfig"
        and "BitsAndBytesConfig(load_in_8bit=True)" in first[-1]
    )
    assert second[-1] == first[-1].replace("m =", "n =")


def test_a_setting_moves_into_the_environment_before_its_statement():
    source = "'''doc'''\nfrom transformers import TrainingArguments\n# where to\na = TrainingArguments('o', logging_dir=name)\n"
    assert look(source).sources()[0] == (
        "'''doc'''\nfrom transformers import TrainingArguments\nimport os\n\n# where to\n"
        "os.environ[\"TENSORBOARD_LOGGING_DIR\"] = name\na = TrainingArguments('o')\n"
    )


def test_what_only_a_person_can_decide_is_listed_and_not_edited():
    found = look(
        "from transformers import TrainingArguments, pipeline\n"
        "TrainingArguments('o', warmup_ratio=0.1, warmup_steps=5)\nTrainingArguments('o', adafactor=flag)\n"
        "pipe = pipeline('summarization')"
    )
    assert [finding.applicability for finding in found.findings] == [Applicability.DISPLAY_ONLY] * 3
    assert found.sources(unsafe=True) == {}


def test_another_framework_is_edited_only_on_request():
    found = look("from transformers import TFBertModel, BertConfig\nTFBertModel(BertConfig())")
    assert found.sources() == {}
    assert found.sources(unsafe=True) == {0: "from transformers import BertModel, BertConfig\nBertModel(BertConfig())"}


def test_edits_that_a_release_does_not_understand_yet_wait_for_it():
    source = "from transformers import TrainingArguments\nTrainingArguments('o', no_cuda=True, warmup_ratio=0.1)"
    assert "use_cpu=True, warmup_ratio=0.1" in look(source).sources(release="4.57.6")[0]
    assert "use_cpu=True, warmup_steps=0.1" in look(source).sources(release="5.23.0")[0]


def test_a_cell_with_a_syntax_error_is_skipped_and_told():
    found = look("from transformers import Trainer", "def f(:", "%%html\n<b>", "Trainer(m, tokenizer=t)")
    assert [cell.number for cell in found.skipped] == [2]
    assert found.sources() == {3: "Trainer(m, processing_class=t)"}


def test_lines_are_those_of_the_cell():
    (finding,) = look("x = 1", "%%time\n\nfrom transformers import Trainer\n\nTrainer(m, tokenizer=t)").findings
    assert (finding.place.cell, finding.place.line) == (1, 5)


def test_too_much_source_is_one_sentence():
    with pytest.raises(InputError, match="more than 500,000 characters"):
        look("#" * (LIMIT + 1))


CHAT = "from transformers import AutoTokenizer\nt = AutoTokenizer.from_pretrained('x')\nt.apply_chat_template(messages)"
LOAD = "from transformers import AutoModel\nm = AutoModel.from_pretrained('x')"


def test_a_changed_default_concerns_only_a_program_written_before():
    assert titles(LOAD) == []
    assert look(CHAT).sources() == {} and "if the code after it expects that" in look(CHAT).findings[0].edit
    before = look(CHAT, LOAD, "t.encode_plus('a')")
    assert before.sources()[0].endswith("t.apply_chat_template(messages, return_dict=False)")
    assert any('`dtype="float32"`' in finding.edit for finding in before.findings)


def test_a_default_that_is_given_is_left_alone():
    given = (
        "t.apply_chat_template(m, tokenize=False)",
        "t.apply_chat_template(m, return_dict=True)",
        "t.apply_chat_template(m, **options)",
    )
    assert titles(CHAT.rsplit("\n", 1)[0], *given) == []


@pytest.mark.parametrize(
    "use", ["train(optimizer=AdamW)", "AdamW(**options)", "if fast:\n    AdamW = Other\nAdamW(p)", "kinds = [AdamW]"]
)
def test_old_defaults_that_cannot_be_written_out_are_said(use):
    found = look(f"from transformers import AdamW\nAdamW(q)\n{use}")
    (finding,) = found.findings
    assert finding.applicability is Applicability.UNSAFE and "weight_decay=0.0" in finding.edit
    assert found.sources() == {} and "from torch.optim import AdamW" in found.sources(unsafe=True)[0]


def test_an_import_that_shares_its_line_is_told():
    (finding,) = look("from transformers import AdamW; AdamW(p)").findings
    assert finding.by_hand and "a line of its own" in finding.edit


def test_new_lines_end_as_the_others_do():
    new = look("from transformers import AdamW, Trainer\r\nAdamW(p)\r\n").sources()[0]
    assert new.count("\n") == new.count("\r\n") == 3


def test_what_a_class_keeps_of_its_own_is_followed():
    source = (
        "from transformers import AutoTokenizer\n\nclass Reader:\n    def __init__(self, name):\n        self.words = None\n"
        "        self.words = AutoTokenizer.from_pretrained(name)\n        self.other = name\n\n    def read(self, text):\n"
        "        return self.words.encode_plus(text), self.other.encode_plus(text)\n"
    )
    assert look(source).sources() == {0: source.replace("self.words.encode_plus(text)", "self.words(text)")}


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __init__(self): self.t = AutoTokenizer.from_pretrained('a')\nclass B:\n    def f(self): self.t.encode_plus('x')",
        "class A:\n    def __init__(self, own):\n        self.t = AutoTokenizer.from_pretrained('a')\n        self.t = own\n    def f(self): self.t.encode_plus('x')",
        "class A:\n    def __init__(self): self.t = AutoTokenizer.from_pretrained('a')\n    def f(self, other): other.t.encode_plus('x')",
    ],
)
def test_anothers_attribute_of_the_same_name_is_left_alone(source):
    assert look(f"from transformers import AutoTokenizer\n{source}").findings == ()


def test_what_the_successor_does_not_take_is_said_and_not_edited_as_if_it_meant_the_same():
    found = look("from transformers import AdamW\nAdamW(p, correct_bias=False)")
    (finding,) = found.findings
    assert "`correct_bias=False` has no counterpart" in finding.edit and found.sources() == {}
    assert found.sources(unsafe=True) == {0: "from torch.optim import AdamW\nAdamW(p, eps=1e-6, weight_decay=0.0)"}
    assert look("from transformers import AdamW\nAdamW(p, correct_bias=True)").sources() != {}


@pytest.mark.parametrize(
    "source",
    [
        "TrainingArguments(**{'output_dir': 'o', 'evaluation_strategy': 'epoch'})",
        "options = {'output_dir': 'o', 'evaluation_strategy': 'epoch'}\nTrainingArguments(**options)",
        "options = dict(output_dir='o',  # here\n               evaluation_strategy='epoch')\nTrainingArguments(**options)",
        "def run():\n    options = dict(evaluation_strategy='epoch')\n    return TrainingArguments('o', **options)",
    ],
)
def test_arguments_from_a_dictionary_are_followed(source):
    source = f"from transformers import TrainingArguments\n{source}"
    found = look(source)
    assert [finding.title for finding in found.findings] == [
        "`evaluation_strategy` of TrainingArguments is now `eval_strategy`"
    ]
    assert found.sources() == {0: source.replace("evaluation_strategy", "eval_strategy")}


@pytest.mark.parametrize(
    "source",
    [
        "options = {'evaluation_strategy': 'no'}\nprint(options)\nTrainingArguments('o', **options)",
        "options = {'evaluation_strategy': 'no', 'eval_strategy': 'no'}\nTrainingArguments('o', **options)",
        "TrainingArguments('o', eval_strategy='no', **{'evaluation_strategy': 'no'})",
        "TrainingArguments('o', **{'tpu_num_cores': 8, 'logging_dir': 'logs'})",
    ],
)
def test_a_dictionary_that_cannot_be_edited_alone_is_told(source):
    found = look(f"from transformers import TrainingArguments\n{source}")
    assert found.findings and all(finding.by_hand for finding in found.findings) and found.sources() == {}


def test_a_dictionary_that_is_not_written_here_is_left_alone():
    sources = (
        "options = load()",
        "options = {'evaluation_strategy': 1}\noptions = {}",
        "dict = list\noptions = dict(evaluation_strategy=1)",
    )
    for source in sources:
        assert titles(f"from transformers import TrainingArguments\n{source}\nTrainingArguments('o', **options)") == []


@pytest.mark.parametrize(
    "source",
    [
        "def load():\n    return AutoTokenizer.from_pretrained('a')\nwords = load()\nwords.encode_plus('x')",
        "def load(name):\n    tok = AutoTokenizer.from_pretrained(name)\n    return object(), tok\nmodel, words = load('a')\nwords.encode_plus('x')",
        "def load():\n    if x:\n        return AutoTokenizer.from_pretrained('a')\n    return AutoTokenizer.from_pretrained('b')\nload().encode_plus('x')",
    ],
)
def test_what_a_function_returns_is_followed(source):
    source = f"from transformers import AutoTokenizer\n{source}"
    assert look(source).sources() == {0: source.replace(".encode_plus('x')", "('x')")}


@pytest.mark.parametrize(
    "source",
    [
        "def load():\n    if x:\n        return AutoTokenizer.from_pretrained('a')\n    return mine()\nload().encode_plus('x')",
        "def load():\n    def inner():\n        return AutoTokenizer.from_pretrained('a')\nload().encode_plus('x')",
        "async def load():\n    return AutoTokenizer.from_pretrained('a')\nload().encode_plus('x')",
        "def load():\n    yield 1\n    return AutoTokenizer.from_pretrained('a')\nload().encode_plus('x')",
        "@cached\ndef load():\n    return AutoTokenizer.from_pretrained('a')\nload().encode_plus('x')",
        "def load():\n    return load()\nload().encode_plus('x')",
    ],
)
def test_a_function_that_may_return_something_else_is_left_alone(source):
    assert look(f"from transformers import AutoTokenizer\n{source}").findings == ()


@pytest.mark.parametrize(
    ("source", "new"),
    [
        ("args = TrainingArguments('o')\nargs.evaluation_strategy = 'epoch'", "args.eval_strategy = 'epoch'"),
        (
            "import functools\nf = functools.partial(TrainingArguments, no_cuda=True)",
            "(TrainingArguments, use_cpu=True)",
        ),
        (
            "from dataclasses import replace\nargs = replace(TrainingArguments('o'), evaluation_strategy='no')",
            "args = replace(TrainingArguments('o'), eval_strategy='no')",
        ),
        ("TrainingArguments(**{'adafactor': True})", "TrainingArguments(**{'optim': \"adafactor\"})"),
        ("TrainingArguments('o', **dict(overwrite_output_dir=True))", "TrainingArguments('o', **dict())"),
        ("\n%%time\nTrainingArguments('o', no_cuda=True)", "%%time\nTrainingArguments('o', use_cpu=True)"),
        ("# slow\n\n%%time\n\nTrainingArguments('o', no_cuda=True)", "%%time\n\nTrainingArguments('o', use_cpu=True)"),
    ],
)
def test_settings_are_found_wherever_they_are_given(source, new):
    found = look("from transformers import TrainingArguments", source)
    assert found.sources()[1].endswith(new) and not found.skipped


def test_two_arguments_that_become_one_are_left_to_a_person():
    found = look(
        "from transformers import TrainingArguments\nTrainingArguments('o', dispatch_batches=True, split_batches=True)"
    )
    assert found.sources()[0].endswith(
        "TrainingArguments('o', accelerator_config={\"dispatch_batches\": True}, split_batches=True)"
    )
    assert [finding.by_hand for finding in found.findings] == [False, True]


def test_names_of_a_star_import_are_resolved():
    found = look("from transformers import *", "a = TrainingArguments('o', no_cuda=True)\nAdamW(p)")
    assert found.sources() == {1: "a = TrainingArguments('o', use_cpu=True)\nAdamW(p)"}
    assert "import `torch.optim.AdamW`, which `import *` does not bring" in found.findings[1].edit


def test_a_class_that_is_not_called_here_is_not_said_to_keep_its_defaults():
    (finding,) = look("from transformers import AdamW\nclass Mine:\n    kind = AdamW").findings
    assert finding.applicability is Applicability.UNSAFE and "with its own defaults" in finding.edit


def test_other_libraries_own_changes_are_found():
    found = look(
        "import transformers\nfrom huggingface_hub import hf_hub_download\nfrom accelerate import Accelerator\n"
        "from torch.optim import AdamW\nhf_hub_download('a', 'b', use_auth_token=t)\nAccelerator(fp16=True)\nAdamW(p, correct_bias=True)"
    )
    assert found.sources()[0].splitlines()[-3:] == [
        "hf_hub_download('a', 'b', token=t)",
        'Accelerator(mixed_precision="fp16")',
        "AdamW(p)",
    ]
