"""The expression that raised is found in cells and files, on every Python; where the source is not known, nothing is."""

import linecache
import sys

import pytest

from tfdiag_ipython.probes._failing_call import failing_call
from tfdiag_ipython.testing import PlainHost

EXACT = sys.version_info >= (3, 11)


def call_of(*cells):
    host = PlainHost()
    for source in cells:
        host.add(source)
    assert host.exception is not None
    return failing_call(host.exception)


def texts(call):
    return [call.text(node) for node in call.nodes]


@pytest.mark.parametrize(
    ("cell", "failed"),
    [
        ("kept = table['good'], table['bad']", "table['bad']"),
        ("größe = 'ä', table['bad']", "table['bad']"),  # columns count bytes
        ("table['bad'] += 1", "table['bad']"),
        ("for key in (\n    'good',\n    'bad',\n):\n    table[key]", "table[key]"),
        ("if table['bad']:\n    pass", "table['bad']"),
        ("assert [table[key] for key in ('good', 'bad')]", "table[key]"),
        ("from operator import getitem\ngetitem(table, 'bad')", "getitem(table, 'bad')"),
    ],
)
def test_the_call_or_subscript_that_raised(cell, failed):
    call = call_of("table = {'good': 1}", cell)
    assert failed in texts(call) and call.own
    assert call.exact == EXACT and (not EXACT or texts(call) == [failed])


def test_names_are_those_of_the_frame_in_which_it_stands():
    call = call_of("def look(place):\n    return [1][place]", "look(7)")
    assert call.locals["place"] == 7 and "line 2" in call.where and "look" in call.where


@pytest.mark.parametrize("name", ["<module>", "<cell line: 1>"])  # what IPython names the frame of a cell
def test_a_cell_is_told_by_its_line_alone(name):
    source = "place = 7\n[1][place]\n"
    linecache.cache["<cell 1>"] = (len(source), None, source.splitlines(keepends=True), "<cell 1>")
    with pytest.raises(IndexError) as raised:
        exec(compile(source, "<cell 1>", "exec").replace(co_name=name), {})
    call = failing_call(raised.value)
    assert call.where == "line 2" and call.own


def test_in_a_librarys_file():
    call = call_of("import fractions", "fractions.Fraction(1, 0)")
    assert not call.own and "fractions.py" in call.where


@pytest.mark.parametrize("cell", ["1 / 0", "raise ValueError", "exec(compile('[][0]', '<made>', 'exec'))"])
def test_where_no_call_is_known_there_is_none(cell):
    assert call_of(cell) is None
    assert failing_call(None) is None
