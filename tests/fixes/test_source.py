"""Edits keep everything that is not edited: comments, layout, IPython's own lines."""

import subprocess
import sys

import pytest

from tfdiag_ipython.fixes.names import names_used
from tfdiag_ipython.fixes.source import calls_to, rename_attribute, replace_symbol, set_arguments

TRAIN = calls_to("TrainingArguments")


@pytest.mark.parametrize(
    ("before", "arguments", "after"),
    [
        ("f(TrainingArguments(a=1))", {"b": "2"}, "f(TrainingArguments(a=1, b=2))"),
        ("TrainingArguments()", {"b": "2"}, "TrainingArguments(b=2)"),
        ("TrainingArguments('out')", {"b": "2"}, "TrainingArguments('out', b=2)"),
        ("TrainingArguments(a=1, b=9)  # why", {"b": "2"}, "TrainingArguments(a=1, b=2)  # why"),
        ("TrainingArguments(b=9, a=1)", {"b": "2"}, "TrainingArguments(b=2, a=1)"),
        ("TrainingArguments(a=1, b=9)", {"b": None}, "TrainingArguments(a=1)"),
        ("TrainingArguments(b=9, a=1)", {"b": None}, "TrainingArguments(a=1)"),
        ("TrainingArguments(b=9)", {"b": None}, "TrainingArguments()"),
        ("TrainingArguments(a=1, **more)", {"b": "2"}, "TrainingArguments(a=1, b=2, **more)"),
        ("TrainingArguments(**more)", {"b": "2"}, "TrainingArguments(b=2, **more)"),
        (
            "x = TrainingArguments(\n    a=1,  # one\n    c=3,\n)\n",
            {"b": "2"},
            "x = TrainingArguments(\n    a=1,  # one\n    c=3,\n    b=2,\n)\n",
        ),
        (
            "x = TrainingArguments(\n    a=1,\n    c=3\n)\n",
            {"b": "2"},
            "x = TrainingArguments(\n    a=1,\n    c=3,\n    b=2\n)\n",
        ),
        (
            "x = TrainingArguments(\n    a=1,\n    c=3,\n)\n",
            {"c": None},
            "x = TrainingArguments(\n    a=1,\n)\n",
        ),
        ("other(a=1)", {"b": "2"}, "other(a=1)"),
        ("transformers.TrainingArguments(a=1)", {"b": "2"}, "transformers.TrainingArguments(a=1, b=2)"),
    ],
)
def test_set_arguments(before, arguments, after):
    assert set_arguments(before, TRAIN, arguments) == after


CELL = """%%time
# a comment
%matplotlib inline
!pip list | head -1
files = !ls
paths = %who_ls
def f():
    !echo {x} \\
       more
    return model?
x = TrainingArguments(a=1)  # %not magic
print("%d" % 3, x
      % 2)
"""


def test_ipython_lines_survive_an_edit_to_the_letter():
    cell = CELL.replace("    return model?\n", "    %timeit g(1)\n")
    assert set_arguments(cell, TRAIN, {"b": "2"}) == cell.replace("(a=1)", "(a=1, b=2)")


@pytest.mark.parametrize(
    "source",
    [
        "%%bash\nTrainingArguments(a=1)",
        "TrainingArguments(a=1",
        "",
        "%%html\n<b>",
        "%%writefile x.py\nTrainingArguments(a=1)",
    ],
)
def test_what_is_no_python_is_left_alone(source):
    assert set_arguments(source, TRAIN, {"b": "2"}) == source


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from transformers import Old\nOld()", "from transformers import New\nNew()"),
        ("from transformers import Other, Old\nx = Old", "from transformers import Other, New\nx = New"),
        ("import transformers\ntransformers.Old()", "import transformers\ntransformers.New()"),
        ("Old()", "from transformers import New\n\nNew()"),
        ("thing.Old(Old=1)  # Old\n'Old'", "thing.Old(Old=1)  # Old\n'Old'"),
        ("from elsewhere import Old2\nOld2()", "from elsewhere import Old2\nOld2()"),
        ("x = 1\nfrom transformers import Old\nOld(x)", "x = 1\nfrom transformers import New\nNew(x)"),
        ("def f():\n    from transformers import (A, Old)", "def f():\n    from transformers import (A, New)"),
        ("x = 1\nfrom transformers import Old as A\nA(x)", "x = 1\nfrom transformers import New as A\nA(x)"),
    ],
)
def test_replace_symbol(before, after):
    changed = replace_symbol(before, "Old", "New", module="transformers")
    assert changed.replace("\n\n", "\n") == after.replace("\n\n", "\n")


def test_names_bound_and_read():
    bound, read = names_used("%time a = b\nimport c.d as e, f\nfor g in h: pass\ndef i(j): return k\n!ls")
    assert {"e", "f", "g", "i"} <= bound
    assert {"h", "k"} <= read


def test_the_comment_of_the_argument_before_a_removed_last_one_stays():
    source = "f(\n    a=1,  # one\n    b=2,  # two\n)"
    assert set_arguments(source, calls_to("f"), {"b": None}) == "f(\n    a=1,  # one\n)"
    assert set_arguments("f(a=1, b=2)", calls_to("f"), {"b": None}) == "f(a=1)"


def test_an_attribute_is_renamed_and_nothing_that_only_reads_alike():
    source = "genrate = 'genrate'\nids = model . genrate(x)  # genrate\n"
    assert (
        rename_attribute(source, "genrate", "generate") == "genrate = 'genrate'\nids = model . generate(x)  # genrate\n"
    )


FULL = """
import resource
from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fixes.source import replace_symbol

replace_symbol("from a import b", "b", "c", module="a")  # loads all that an edit uses
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
try:
    replace_symbol("from a import b", "b", "c", module="a")
except PlanError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses memory beyond a process's limit")
def test_where_memory_is_full_an_edit_is_refused_and_the_program_lives_on():
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "not even memory to edit your code" in done.stdout, done.stderr
