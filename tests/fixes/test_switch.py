"""A switch is set where the library reads it, and everything is put back on undo."""

import os
import sys
import types

from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.switch import SetSwitches, Switch
from tfdiag_ipython.testing import PlainHost


def test_variables_and_live_values_are_set_and_put_back(monkeypatch):
    module = types.ModuleType("some_library_constants")
    module.OFFLINE = False
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("SOME_SET", "before")
    monkeypatch.delenv("SOME_UNSET", raising=False)
    switches = [Switch(module.__name__, "OFFLINE", True), Switch("not.loaded", "OFFLINE", True)]
    plan = SetSwitches(PlainHost(), {"SOME_SET": None, "SOME_UNSET": "1"}, switches)
    assert "SOME_UNSET=1" in plan.preview().text and module.OFFLINE is False
    plan.execute(Progress())
    assert (os.environ.get("SOME_SET"), os.environ.get("SOME_UNSET"), module.OFFLINE) == (None, "1", True)
    plan.undo()
    assert (os.environ.get("SOME_SET"), os.environ.get("SOME_UNSET"), module.OFFLINE) == ("before", None, False)
