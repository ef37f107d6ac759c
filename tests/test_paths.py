"""Paths are shown as the person would write them."""

from tfdiag_ipython.paths import from_here


def test_below_the_working_folder_a_path_is_relative_and_elsewhere_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(str(tmp_path / "models" / "bert")) == "models/bert"
    for path in (str(tmp_path), f"{tmp_path}-other/x", "/elsewhere/x", "models/bert", ""):
        assert from_here(path) == path
