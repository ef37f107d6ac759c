"""Finding rules: the index finds what a loop over all patterns would, and a broken pack costs nothing but a report."""

import re
import sys
import types

import pytest

from tfdiag_ipython.diagnosis import Certainty
from tfdiag_ipython.errors import UnknownCodeError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.registry import Registry, load_registry, required_literals
from tfdiag_ipython.rule import Rule


def make(code, pattern, *, name=None, raised=(), kinds=("exception",)):
    def diagnose(self, failure, hit, evidence):
        return self.found(f"{code} fits", Certainty.LIKELY)

    values = {
        "code": code,
        "name": name or code.lower(),
        "raised": raised,
        "message": re.compile(pattern),
        "kinds": kinds,
    }
    return type(code, (Rule,), {**values, "diagnose": diagnose})()


@pytest.mark.parametrize(
    ("pattern", "text", "literals"),
    [
        (
            r"out of memory\. Tried to allocate (?P<n>\d+)",
            "CUDA out of memory. Tried to allocate 3",
            {"out of memory. tried to allocate "},
        ),
        (r"first thing|second thing", "the second thing", {"first thing", "second thing"}),
        (r"(?i)MiXeD Case", "mixed case", {"mixed case"}),
        (r"(?:abcdef)+x?", "abcdef", {"abcdef"}),
        (r"(?:optional)?\d+", "12", set()),
        (r"ab|longer one", "ab", set()),
    ],
)
def test_literals_are_what_every_match_needs(pattern, text, literals):
    assert re.search(pattern, text)
    assert set(required_literals(re.compile(pattern))) == literals


@pytest.mark.parametrize(
    "pattern", [r"out of memory", r"(?:GPU|CPU) \d", r"\d+ bytes", r"(?i)OUT OF", r"x*", r"^Error$|memory"]
)
def test_index_finds_what_a_loop_finds(pattern):
    registry = Registry([make("AAA001", pattern), make("AAA002", "something else entirely")])
    for text in ("out of memory on GPU 0: 12 bytes", "GPU 1", "Error", "nothing"):
        found = [rule.code for rule, _ in registry.match(Failure.from_text(f"RuntimeError: {text}"))]
        assert ("AAA001" in found) == bool(re.search(pattern, text))


def test_type_is_matched_along_the_mro_and_by_printed_name():
    registry = Registry(
        [make("AAA001", "gone", raised=("builtins.OSError",)), make("AAA002", "gone", raised=("httpx2.ConnectError",))]
    )
    live = [rule.code for rule, _ in registry.match(Failure.from_exception(FileNotFoundError("gone")))]
    stored = [rule.code for rule, _ in registry.match(Failure.from_text("httpx.ConnectError: gone"))]
    assert live == ["AAA001"]
    assert stored == ["AAA002"]


def test_cause_deep_in_the_chain_is_matched():
    error = OSError("outer")
    error.__cause__ = ValueError("the real reason")
    (_, hit), *_ = Registry([make("AAA001", "the real reason")]).match(Failure.from_exception(error))
    assert hit.position == 1 and hit.raised.name == "ValueError"


def test_clashing_and_malformed_rules_are_left_out_and_reported():
    registry = Registry(
        [
            make("AAA001", "a", name="one"),
            make("AAA001", "b", name="two"),
            make("AAA002", "c", name="one"),
            make("bad", "d"),
        ]
    )
    assert [rule.code for rule in registry] == ["AAA001"]
    assert len(registry.problems) == 3


class Unreadable:
    def __get__(self, rule, kind):
        raise SystemExit(3)


@pytest.mark.parametrize(
    "values",
    [
        {"message": "a text"},
        {"message": re.compile(b"bytes")},
        {"message": None},
        {"raised": "builtins.ValueError"},
        {"raised": (ValueError,)},
        {"kinds": "warning"},
        {"kinds": ("exceptions",)},
        {"needs": "memory"},
        {"needs": ("memory",)},
        {"needs": None},
        {"needs": (int,)},
        {"fixes": ("restart",)},
        {"links": ("https://example.org",)},
        {"code": 1},
        {"name": None},
        {"raised": Unreadable()},
    ],
)
def test_a_rule_that_is_declared_wrongly_is_reported_and_the_others_are_there(values, caplog):
    sound, broken = make("AAA001", "gone"), make("AAA002", "gone")
    for name, value in values.items():
        setattr(type(broken), name, value)
    registry = Registry([broken, sound])
    assert [rule.code for rule, _ in registry.match(Failure.from_exception(ValueError("gone")))] == ["AAA001"]
    assert len(registry.problems) == 1 and "AAA002" in caplog.text


def test_a_module_of_a_pack_that_exits_costs_only_itself(tmp_path, monkeypatch):
    pack = tmp_path / "exiting_pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    (pack / "first.py").write_text("raise SystemExit(3)")
    body = (
        "import re\nfrom tfdiag_ipython.rule import Rule\nclass {0}(Rule):\n"
        "    code, name, message = '{0}001', '{1}', re.compile('x')\n    def diagnose(self, failure, hit, evidence): ...\n"
    )
    exits = "    def __init__(self):\n        raise SystemExit(3)\n"
    (pack / "second.py").write_text(body.format("YYY", "exits") + exits + body.format("ZZZ", "sound"))
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    registry.add_pack("exiting_pack")
    assert [rule.code for rule in registry] == ["ZZZ001"]
    assert len(registry.problems) == 2


@pytest.mark.parametrize("body", ["raise SystemExit(3)", "import no_such_module_at_all", "def ("])
def test_broken_pack_is_reported_not_fatal(tmp_path, monkeypatch, body):
    (tmp_path / "broken_pack.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_pack", raising=False)
    registry = load_registry()
    known = len(registry)
    registry.add_pack("broken_pack")
    assert len(registry) == known > 0
    assert registry.problems[-1].pack == "broken_pack"


def test_installed_pack_is_found_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "my_pack.py").write_text(
        "import re\nfrom tfdiag_ipython.rule import Rule\n"
        "class Mine(Rule):\n    code, name, message = 'ZZZ001', 'my-fault', re.compile('my own fault')\n"
        "    def diagnose(self, failure, hit, evidence):\n        return None\n"
    )
    info = tmp_path / "my_pack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-pack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tfdiag.rules]\nmine = my_pack\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "ZZZ001" in load_registry()


def test_unknown_code_names_the_nearest():
    with pytest.raises(UnknownCodeError, match="CFG001"):
        load_registry().get("CFG01")


def test_rule_is_found_by_lower_case_code_and_by_name():
    registry = load_registry()
    assert registry.get("cfg001") is registry.get("unrecognized-configuration-class")


def test_matching_a_module_without_rules_is_empty():
    registry = Registry()
    sys.modules["empty_pack"] = types.ModuleType("empty_pack")
    registry.add_pack("empty_pack")
    assert registry.match(Failure.from_text("ValueError: x")) == [] and registry.problems == []
