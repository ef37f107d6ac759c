"""The diagnosis alone, where no button follows it (a terminal, nbclient, a saved page): it says by itself what each fix does."""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType

import pytest

from tfdiag_ipython.api import registry
from tfdiag_ipython.diagnosis import Applicability
from tfdiag_ipython.engine import Engine
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.render.text import render_text
from tfdiag_ipython.rule import Match

MATCHES = [
    pytest.param(case, id=f"{rule.code}-{number}")
    for rule in registry()
    for number, case in enumerate(rule.CASES)
    if isinstance(case, Match)
]


@pytest.mark.parametrize("case", MATCHES)
def test_what_is_written_speaks_of_no_button_and_tells_what_each_fix_does(case):
    known = {name: Evidence(MappingProxyType(dict(facts))) for name, facts in case.evidence.items()}
    failure = case.failure or Failure.from_text(case.text)
    found = Engine(registry()).diagnose(replace(failure, stored=failure.stored and not known), known=known)
    assert not re.search(r"\b(button|click)", render_text(found), re.IGNORECASE)
    silent = [
        fix.label
        for diagnosis in found
        for fix in diagnosis.fixes
        if fix.applicability is not Applicability.DISPLAY_ONLY
        and not fix.explanation
        and not re.search(r"[`=.(/]", fix.label)
    ]
    assert silent == []
