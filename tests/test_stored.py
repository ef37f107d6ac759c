"""What people paste is read as what was raised. The texts are made here by raising, with Python's and IPython's own printers."""

import traceback

import pytest

from tfdiag_ipython.failure import Failure


def fails():
    try:
        int("x")
    except ValueError as error:
        raise OSError("We couldn't connect.\nSecond line: with a colon") from error


def plain() -> str:
    try:
        fails()
    except OSError:
        return traceback.format_exc()
    raise AssertionError


def ipython(mode: str, colors: str) -> str:
    from IPython.core import ultratb

    try:
        fails()
    except OSError as error:
        for options in ({"theme_name": colors.lower()}, {"color_scheme": colors}):
            try:
                printer = ultratb.FormattedTB(mode=mode, **options)
                break
            except TypeError:
                continue
        return printer.text(OSError, error, error.__traceback__)
    raise AssertionError


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose"])
@pytest.mark.parametrize("colors", ["NoColor", "Linux"])
def test_ipython_traceback(mode, colors):
    failure = Failure.from_text(ipython(mode, colors))
    assert failure.top.name == "OSError"
    assert failure.top.message.splitlines() == ["We couldn't connect.", "Second line: with a colon"]
    assert failure.find("ValueError") is not None
    assert any(frame.function == "fails" for frame in failure.frames)


@pytest.mark.parametrize("text", [plain(), ipython("Context", "NoColor")], ids=["plain", "ipython"])
def test_lines_of_a_message_that_begin_with_a_number_are_its_own(text):
    failure = Failure.from_text(f"{text.rstrip()}\n\nAlso:\n  1 of 4 files\n")
    assert failure.top.name == "OSError"
    assert failure.top.message.splitlines()[0] == "We couldn't connect."


def test_plain_traceback():
    failure = Failure.from_text(plain())
    assert [(raised.name, raised.relation) for raised in failure.chain] == [("OSError", ""), ("ValueError", "cause")]
    assert failure.top.message == "We couldn't connect.\nSecond line: with a colon"
    assert failure.top.frames[-1].function == "fails"
    assert failure.stored


def test_windows_line_ends_and_rank_prefix():
    text = "\r\n".join(f"[rank0]: {line}" for line in plain().splitlines())
    assert Failure.from_text(text).top.name == "OSError"


def test_log_lines_in_front():
    text = "2023-07-13 06:32:07,236 INFO step 3\nW0713 something: harmless\n" + plain()
    failure = Failure.from_text(text)
    assert failure.top.name == "OSError" and "step 3" in failure.text


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("ValueError: no", "ValueError", "no"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory.", "OutOfMemoryError", "CUDA out of memory."),
        ("KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("ERROR 12:03 worker: RuntimeError: it broke", "RuntimeError", "it broke"),
        ("just words: nothing raised", "", "just words: nothing raised"),
        ("", "", ""),
    ],
)
def test_last_line_only(text, name, message):
    top = Failure.from_text(text).top
    assert (top.name, top.message) == (name, message)


def test_exception_name_without_known_ending_counts_after_a_traceback():
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    f()\nqueue.Empty\n'
    assert Failure.from_text(text).top.types == ("queue.Empty",)


def test_exception_group():
    text = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "a.py", line 1, in <module>\n  |     f()\n'
        "  | ExceptionGroup: several (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | Traceback (most recent call last):\n"
        '    |   File "a.py", line 2, in g\n    |     h()\n'
        "    | ValueError: inner\n"
        "    +------------------------------------\n"
    )
    failure = Failure.from_text(text)
    assert failure.find("ExceptionGroup") is not None
    assert failure.find("ValueError").message == "inner"


def test_spawned_process():
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    spawn()\n'
        "torch.multiprocessing.spawn.ProcessRaisedException: \n\n-- Process 1 terminated with the following error:\n"
        'Traceback (most recent call last):\n  File "w.py", line 9, in worker\n    go()\nValueError: in the child\n'
    )
    failure = Failure.from_text(text)
    assert failure.top.name == "ProcessRaisedException"
    assert failure.find("ValueError").message == "in the child"


def test_dataloader_worker():
    text = (
        'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    next(loader)\n'
        "IndexError: Caught IndexError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "w.py", line 9, in fetch\n    data[9]\nIndexError: list index out of range\n'
    )
    failure = Failure.from_text(text)
    assert failure.top.message.startswith("Caught IndexError")
    assert failure.chain[-1].message == "list index out of range"


@pytest.mark.parametrize(
    "text", ["\x00\x01\x1b[31m", "Traceback (most recent call last):", "}{" * 5000, "\u202eabc", "|+-" * 99]
)
def test_rubbish_is_no_error(text):
    assert Failure.from_text(text).stored


CHAIN = """Traceback (most recent call last):
  File "/app/train.py", line 12, in <module>
    main()
ValueError: the first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/train.py", line 20, in <module>
    run()
RuntimeError: it broke.
Tried again"""


def fronted(before):
    """Every line of CHAIN with this in front; ``{0}`` is the number of the line."""
    return "\n".join((before.format(number) + line).rstrip() for number, line in enumerate(CHAIN.split("\n"), start=7))


@pytest.mark.parametrize(
    "text",
    [
        CHAIN,
        "It says:\n\n" + fronted("    ") + "\n\nThanks for help: it is urgent",
        "  " + CHAIN,
        "You wrote:\n" + fronted("> ") + "\n\nMe too: what now?",
        fronted(">> "),
        "It fails\n```\n" + CHAIN + "\n```\nWhat: to do?\n",
        "```python\nrun()\n```\ngives\n```python-traceback\n" + CHAIN + "\n```\nWhat: to do?\n",
        "> ~~~\n" + fronted("> ") + "\n> ~~~\nMe too: what now?",
        fronted("2024-01-01 12:00:{0},{0}45 ERROR ") + "\n2024-01-01 12:01:00,000 INFO bye",
        "2024-01-01 12:00:00 ERROR step failed\n" + CHAIN,
        "ERROR:root:" + CHAIN,
        fronted("2024-01-01T12:00:00.0{0}5Z stderr F "),
        fronted("trainer-1  | "),
        fronted("trainer-1  | ").replace("\n", "\nweb-1      | GET / 200\n"),
        fronted("Jan  1 12:00:{0} host python[123]: "),
        fronted("[rank0]: "),
        fronted("[1,0]<stderr>:"),
    ],
)
def test_what_stands_before_every_line_or_around_is_no_part_of_it(text):
    chain = Failure.from_text(text).chain
    assert [(raised.name, raised.message) for raised in chain] == [
        ("RuntimeError", "it broke.\nTried again"),
        ("ValueError", "the first"),
    ]
    frames = [(frame.file, frame.function, frame.line, frame.source) for raised in chain for frame in raised.frames]
    assert frames == [("/app/train.py", "<module>", 20, "run()"), ("/app/train.py", "<module>", 12, "main()")]


def test_fences_in_a_message_belong_to_it():
    text = CHAIN + "\n```python\nmodel.to('cuda')\n```\nor a smaller batch"
    assert Failure.from_text(text).top.message.endswith("or a smaller batch")


def test_a_file_on_windows_in_ipythons_frames():
    text = (
        "ValueError      Traceback (most recent call last)\n"
        "File C:\\Users\\me\\train.py:12, in train(model)\n     11 def train(model):\n---> 12     model()\n\nValueError: no"
    )
    (frame,) = Failure.from_text(text).frames
    assert (frame.file, frame.line, frame.function) == ("C:\\Users\\me\\train.py", 12, "train")


HANDLED = """Traceback (most recent call last):
  File "{file}", line 2, in <module>
    from transformers import AdamW
ImportError: cannot import name 'AdamW' from 'transformers'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/me/train.py", line 5, in <module>
    rate = settings["lr"]
KeyError: 'lr'
"""


def test_what_the_persons_own_code_had_caught_is_told_from_what_a_library_had():
    own = Failure.from_text(HANDLED.format(file="/home/me/train.py"))
    library = Failure.from_text(HANDLED.format(file="/venv/lib/python3.11/site-packages/trl/x.py"))
    assert [failure.chain[1].relation for failure in (own, library)] == ["handled", "context"]
