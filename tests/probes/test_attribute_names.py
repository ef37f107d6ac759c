"""The nearest name is read off an object without asking it for anything."""

import sys
import types

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.attribute_names import AttributeNamesProbe


def look(owner, ask):
    try:
        ask(owner)
    except AttributeError as error:
        return AttributeNamesProbe().look(Failure.from_exception(error), Scene({}, exception=error, live=True))
    raise AssertionError("nothing was raised")


def a_model(**members):
    """An object of a class that a library of that name would have."""
    return type("Model", (), {"__module__": "transformers.models.toy", **members})()


def test_no_property_is_run_and_no_getattr():
    asked = []
    refuse = property(lambda self: asked.append("property"))

    def missing(self, name):
        asked.append(name)
        raise AttributeError(name)

    seen = look(a_model(generate=lambda self: None, generated=refuse, __getattr__=missing), lambda model: model.genrate)
    assert seen["nearest"][0] == "generate" and seen["callable"]
    assert asked == ["genrate"]


def test_a_name_of_a_relative_is_not_misspelt():
    base = type("Base", (), {"__module__": "transformers.toy"})
    type("WithHead", (base,), {"__module__": "transformers.toy", "generates": 1})
    owner = type("WithoutHead", (base,), {"__module__": "transformers.toy", "generated": 1})()
    seen = look(owner, lambda model: model.generates)
    assert seen["of"] == "transformers.toy.WithHead.generates" and not seen["sure"]


def test_the_owner_is_a_module():
    module = types.ModuleType("transformers.toy")
    module.generate = 1
    assert not look(module, lambda module: module.genrate)  # IMP001's


def test_objects_of_other_libraries_are_left_alone():
    module = types.ModuleType("robots")
    assert "robots" not in sys.modules
    owner = type("Robot", (), {"__module__": module.__name__, "generate": 1})()
    assert not look(owner, lambda robot: robot.genrate)
