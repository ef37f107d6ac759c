"""A failure is values only, whatever the exception is made of."""

import concurrent.futures
import fractions
import gc
import multiprocessing
import os
import sys
import traceback
import weakref

import pytest

from tfdiag_ipython.failure import MESSAGE_LIMIT, Failure


def caught(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


class Tensor:
    """Stands for something large that a frame holds."""


def test_keeps_no_object_of_the_failed_program_alive():
    held = []

    def fails():
        large = Tensor()
        held.append(weakref.ref(large))
        raise ValueError("no")

    failure = Failure.from_exception(caught(fails))
    gc.collect()
    assert failure.top.message == "no"
    assert held[0]() is None


def test_chain_has_cause_context_notes_and_frames():
    def fails():
        try:
            {}["key"]
        except KeyError as error:
            raise OSError("outer") from error

    failure = Failure.from_exception(caught(fails))
    assert [raised.name for raised in failure.chain] == ["OSError", "KeyError"]
    assert failure.chain[1].relation == "cause"
    assert failure.top.frames[-1].function == "fails"
    assert 'raise OSError("outer")' in failure.top.frames[-1].source


def test_suppressed_context_is_kept():
    def fails():
        try:
            raise ConnectionError("proxy said no")
        except ConnectionError:
            raise OSError("can't load") from None

    assert Failure.from_exception(caught(fails)).find("ConnectionError") is not None


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_group_members_are_in_the_chain():
    group = ExceptionGroup("several", [ValueError("one"), KeyError("two")])  # noqa: F821
    names = [(raised.name, raised.relation) for raised in Failure.from_exception(group).chain]
    assert names == [("ExceptionGroup", ""), ("ValueError", "group"), ("KeyError", "group")]


def test_cyclic_cause_ends():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert len(Failure.from_exception(first).chain) == 2


@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_hostile_str_costs_a_placeholder(raised):
    class Hostile(Exception):
        def __str__(self):
            raise raised("from __str__")

    failure = Failure.from_exception(Hostile())
    assert raised.__name__ in failure.top.message


def test_huge_message_keeps_head_and_tail():
    failure = Failure.from_exception(ValueError("HEAD" + "x" * 50_000_000 + "TAIL"))
    assert failure.top.message.startswith("HEAD") and failure.top.message.endswith("TAIL")
    assert len(failure.top.message) < MESSAGE_LIMIT + 200


def test_exception_without_traceback_has_no_frames():
    assert Failure.from_exception(ValueError("made, not raised")).frames == ()


def test_worker_traceback_in_the_message_joins_the_chain():
    message = (
        "Caught IndexError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "worker.py", line 3, in fetch\n    data[9]\nIndexError: list index out of range\n'
    )
    failure = Failure.from_exception(IndexError(message))
    assert failure.chain[-1].message == "list index out of range"
    assert failure.chain[-1].relation == "embedded"
    assert failure.chain[-1].frames[-1].function == "fetch"


def test_to_dict_is_json():
    import json

    failure = Failure.from_exception(caught(lambda: 1 / 0), source="1 / 0", cell="cell 1")
    assert json.loads(json.dumps(failure.to_dict()))["chain"][0]["message"] == "division by zero"


def test_what_the_persons_own_code_caught_is_told_from_what_a_library_caught():
    def fails():
        try:
            int("no number")
        except ValueError:
            {}["key"]

    def library():
        os.environ["TFDIAG_NO_SUCH_VARIABLE"]  # os catches one KeyError and raises another from None

    own, other = Failure.from_exception(caught(fails)), Failure.from_exception(caught(library))
    assert [(raised.name, raised.relation) for raised in own.chain] == [("KeyError", ""), ("ValueError", "handled")]
    assert [(raised.name, raised.relation) for raised in other.chain] == [("KeyError", ""), ("KeyError", "context")]


def test_what_is_still_on_its_way_is_not_handled():
    def in_finally():
        try:
            int("no number")
        finally:
            {}["key"]

    class Closing:
        def __enter__(self):
            return self

        def __exit__(self, *raised):
            {}["key"]

    def in_with():
        with Closing():
            int("no number")

    for fails in (in_finally, in_with):
        relations = [(raised.name, raised.relation) for raised in Failure.from_exception(caught(fails)).chain]
        assert relations == [("KeyError", ""), ("ValueError", "context")]


def test_causes_of_a_handled_exception_are_handled_too():
    def fails():
        try:
            try:
                int("no number")
            except ValueError as error:
                raise OSError("outer") from error
        except OSError:
            {}["key"]

    relations = [(raised.name, raised.relation) for raised in Failure.from_exception(caught(fails)).chain]
    assert relations == [("KeyError", ""), ("OSError", "handled"), ("ValueError", "handled")]


def test_what_another_process_raised_is_read_from_the_text_that_it_left():
    def fails():
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(fractions.Fraction, 1, 0).result()

    found = Failure.from_exception(caught(fails)).chain[-1]
    assert (found.name, found.message, found.relation) == ("ZeroDivisionError", "Fraction(1, 0)", "embedded")
    assert found.frames[-1].function == "__new__" and found.frames[-1].source.startswith("raise ZeroDivisionError")
    stored = Failure.from_text("".join(traceback.format_exception(caught(fails)))).chain
    assert [raised.message for raised in stored] == ["Fraction(1, 0)", "Fraction(1, 0)"]


def test_a_worker_of_a_data_loader_is_read_where_its_exception_is_only_the_cause():
    torch_data = pytest.importorskip("torch.utils.data")

    def fails():
        try:
            list(torch_data.DataLoader(Rows(), num_workers=1, multiprocessing_context="fork"))
        except KeyError as error:
            raise RuntimeError("the epoch failed") from error

    found = Failure.from_exception(caught(fails)).chain[-1]
    assert (found.name, found.message, found.frames[-1].function) == ("KeyError", "'labels'", "__getitem__")


class Rows:
    def __len__(self):
        return 1

    def __getitem__(self, number):
        return {}["labels"]
