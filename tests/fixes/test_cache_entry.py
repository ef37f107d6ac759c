"""Deleting one file of the Hub's cache: it and the links to it, and nothing else."""

import pytest

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Progress
from tfdiag_ipython.fixes.cache_entry import DeleteCacheEntry
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.hub_entry import HubEntryProbe, problem_of

OLD, NEW = "0" * 40, "1" * 40
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n"


@pytest.fixture
def repository(tmp_path):
    """Two snapshots that share a damaged file, and a sound one."""
    folder = tmp_path / "models--acme--tiny"
    (folder / "blobs").mkdir(parents=True)
    for blob, text in {"good": "{}", "bad": LFS}.items():
        (folder / "blobs" / blob).write_text(text)
    for commit in (OLD, NEW):
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").symlink_to("../../blobs/bad")
        (snapshot / "other.json").symlink_to("../../blobs/good")
    return folder


def look(path):
    failure = Failure.from_exception(OSError(f"It looks like the config file at '{path}' is not a valid JSON file."))
    return HubEntryProbe().look(failure, Scene({}, live=True))


def test_the_file_and_all_links_to_it_go_and_nothing_else(repository):
    seen = look(repository / "snapshots" / NEW / "config.json")
    plan = DeleteCacheEntry(None, seen["blob"], seen["links"], seen["size"])
    told = plan.preview()
    assert (
        str(repository / "blobs" / "bad") in told.text
        and f"{len(LFS)} bytes" in told.note
        and "cannot be undone" in told.note
    )
    assert (repository / "blobs" / "bad").exists()
    plan.execute(Progress())
    left = sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file())
    assert left == ["blobs/good", f"snapshots/{OLD}/other.json", f"snapshots/{NEW}/other.json"]
    assert not (repository / "snapshots" / OLD / "config.json").is_symlink()


def test_a_file_that_has_changed_since_is_left_alone(repository):
    seen = look(repository / "snapshots" / NEW / "config.json")
    (repository / "blobs" / "bad").write_text("{}")
    with pytest.raises(PlanError, match="has changed"):
        DeleteCacheEntry(None, seen["blob"], seen["links"], seen["size"]).execute(Progress())
    assert (repository / "snapshots" / NEW / "config.json").exists()


def test_a_link_that_leads_out_of_the_cache_is_deleted_and_its_target_kept(repository, tmp_path):
    outside = tmp_path / "mine.json"
    outside.write_text(LFS)
    link = repository / "snapshots" / NEW / "mine.json"
    link.symlink_to(outside)
    seen = look(link)
    DeleteCacheEntry(None, seen["blob"], seen["links"], seen["size"]).execute(Progress())
    assert outside.read_text() == LFS and not link.is_symlink()


def test_a_damaged_file_outside_the_cache_is_no_cache_entry(tmp_path):
    (tmp_path / "config.json").write_text(LFS)
    assert not look(tmp_path / "config.json")


def test_what_is_sound_has_no_problem(repository, tmp_path):
    assert problem_of(repository / "blobs" / "good") == ""
    assert problem_of(repository / "snapshots" / NEW / "absent.json") == ""
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "no JSON" in problem_of(tmp_path / "deep.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(100_000_000)
    assert problem_of(tmp_path / "huge.json") == ""
