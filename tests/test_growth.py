"""No pattern that reads other people's text may take more than time in proportion to it. Rules' own are tried with their cases."""

import re

import pytest

from tfdiag_ipython import addresses, redact, shortage, stored
from tfdiag_ipython.growth import grows
from tfdiag_ipython.probes import callable_signature, index_call, installed_symbols, state_dict
from tfdiag_ipython.rules.hub import _names, endpoint_no_address
from tfdiag_ipython.rules.idx import _assertions
from tfdiag_ipython.rules.mem import _messages

MODULES = (
    addresses,
    redact,
    shortage,
    stored,
    callable_signature,
    index_call,
    installed_symbols,
    state_dict,
    _assertions,
    _messages,
    _names,
    endpoint_no_address,
)
ONE_LINE = {"_BEGIN", "_FENCE", "_KIND"}
"""Patterns that are only ever compared with a whole line or name."""
PATTERNS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES
    for name, value in vars(module).items()
    if isinstance(value, re.Pattern) and name not in ONE_LINE
}


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_reading_takes_time_in_proportion_to_the_text(name):
    assert grows(PATTERNS[name]) == ""


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?P<kind>\w+) is bad",
        r"\s*x$",
        r"found in (?P<where>\S.*?)(?: or|\.?\s*$)",
        r"file '[^\n]*x",
        r"(?:ab|b)+c",
        r"^\s*File",
    ],
)
def test_a_pattern_that_takes_the_square_is_found(pattern):
    assert grows(re.compile(pattern, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    "pattern", [r"(?<!\w)(?P<kind>\w+) is bad", r"\A[ \t]*x$", r"file '[^'\n]{0,300}x", r"plain|words"]
)
def test_a_pattern_in_proportion_is_left_alone(pattern):
    assert grows(re.compile(pattern)) == ""
