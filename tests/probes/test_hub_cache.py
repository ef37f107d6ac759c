"""What the cache folder of one repository tells, without the network."""

import json
import os
from types import SimpleNamespace

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Deadline, Scene
from tfdiag_ipython.probes.hub_cache import HubCacheProbe, cached, proxy_variable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def asked(cache, repo="acme/tiny", kind="model", files=(), revision="main"):
    return {
        "repo": repo,
        "repo_type": "model",
        "files": files,
        "revision": revision,
        "kind": kind,
        "cache": str(cache),
        "path": False,
    }


def download(cache, *files, repo="acme/tiny", branch="main"):
    """Lay files out as huggingface_hub does: blobs, and snapshots that link to them."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / branch).write_text(COMMIT)
    for name in files:
        (folder / "blobs" / name).write_text("{}")
        (folder / "snapshots" / COMMIT / name).symlink_to(folder / "blobs" / name)
    return folder


@pytest.mark.parametrize(
    ("kind", "files", "complete"),
    [
        ("model", ("config.json", "model.safetensors"), True),
        ("model", ("config.json",), False),
        ("model", ("model.safetensors",), False),
        ("tokenizer", ("tokenizer.json",), True),
        ("tokenizer", ("vocab.txt", "tokenizer_config.json"), True),
        ("tokenizer", ("tokenizer_config.json", "config.json"), False),
        ("processor", ("preprocessor_config.json",), True),
        ("configuration", ("config.json",), True),
        ("snapshot", ("README.md",), True),
    ],
)
def test_complete_means_that_the_loader_has_what_it_cannot_do_without(tmp_path, kind, files, complete):
    download(tmp_path, *files)
    assert cached(asked(tmp_path, kind=kind), Deadline(5))["complete"] is complete


@pytest.mark.parametrize(
    ("kind", "options", "files", "lacks"),
    [
        ("model", {}, ("config.json",), ("weights",)),
        ("model", {"variant": "fp16"}, ("config.json", "model.safetensors"), ("weights",)),
        ("model", {"variant": "fp16"}, ("config.json", "model.fp16.safetensors"), ()),
        ("model", {"use_safetensors": True}, ("config.json", "pytorch_model.bin"), ("weights",)),
        ("model", {"framework": "tf"}, ("config.json", "model.safetensors"), ("weights",)),
        ("model", {"subfolder": "unet"}, ("config.json", "model.safetensors"), ("config.json", "weights")),
        ("tokenizer", {}, ("vocab.json", "tokenizer_config.json"), ("tokenizer files",)),
        ("pipeline", {}, ("config.json", "model.safetensors"), ("tokenizer files or processor files",)),
        ("snapshot", {}, ("config.json",), ("weights",)),
        ("snapshot", {}, ("config.json", "model.gguf"), ()),
    ],
)
def test_what_this_very_call_needs_and_the_cache_has_not_is_named(tmp_path, kind, options, files, lacks):
    download(tmp_path, *files)
    facts = cached({**asked(tmp_path, kind=kind), "options": options}, Deadline(5))
    assert (facts["lacks"], facts["complete"]) == (lacks, not lacks)


def test_a_commit_that_is_there_whole_is_found_where_the_branch_is_not(tmp_path):
    folder = download(tmp_path, "config.json", "model.safetensors")
    (folder / "refs" / "main").unlink()
    facts = cached(asked(tmp_path), Deadline(5))
    assert (facts["complete"], facts["others"]) == (False, ((COMMIT, True),))


def test_a_folder_of_the_cache_without_a_snapshot_is_no_neighbour(tmp_path):
    for name in ("models--acme--tiny/refs", "models--acme--tinny/snapshots"):
        (tmp_path / name).mkdir(parents=True)
    assert cached(asked(tmp_path), Deadline(5))["nearest"] == ""


@pytest.mark.parametrize("given", ["./modles/bert", "modles/brt/", "models/bert/config.json"])
def test_a_misspelt_path_finds_its_folder_part_by_part(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "bert").mkdir(parents=True)
    (tmp_path / "models" / "bert" / "config.json").write_text("{}")
    facts = cached({**asked(tmp_path / "hub", repo=given), "path": True}, Deadline(5))
    assert facts["nearest_folder"].removeprefix("./") == "models/bert"


def test_a_sharded_model_is_complete_only_with_every_shard(tmp_path):
    folder = download(tmp_path, "config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "blobs" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert not cached(asked(tmp_path), Deadline(5))["complete"]
    download(tmp_path, "model-00002-of-00002.safetensors")
    assert cached(asked(tmp_path), Deadline(5))["complete"]


def test_a_link_whose_blob_was_deleted_is_no_file(tmp_path):
    folder = download(tmp_path, "config.json", "model.safetensors")
    (folder / "blobs" / "model.safetensors").unlink()
    facts = cached(asked(tmp_path), Deadline(5))
    assert facts["holds"] == ("config.json",)
    assert not facts["complete"]


def test_another_revision_than_the_cached_one_is_not_there(tmp_path):
    download(tmp_path, "config.json", branch="v1")
    facts = cached(asked(tmp_path, kind="configuration"), Deadline(5))
    assert (facts["commit"], facts["refs"], facts["complete"]) == ("", {"v1": COMMIT}, False)
    assert cached(asked(tmp_path, kind="configuration", revision=COMMIT), Deadline(5))["complete"]


def test_a_misspelt_name_finds_its_neighbour_in_the_cache(tmp_path):
    download(tmp_path, "config.json", repo="acme/Tiny-BERT")
    assert cached(asked(tmp_path, repo="acme/tiny-brt"), Deadline(5))["nearest"] == "acme/Tiny-BERT"
    assert cached(asked(tmp_path, repo="tiny-bert"), Deadline(5))["nearest"] == "acme/Tiny-BERT"
    assert cached(asked(tmp_path, repo="other/whisper"), Deadline(5))["nearest"] == ""


@pytest.mark.parametrize(
    ("variables", "endpoint", "applies"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://huggingface.co", "HTTPS_PROXY"),
        ({"https_proxy": "http://proxy:3128"}, "https://huggingface.co", "https_proxy"),
        ({"ALL_PROXY": "http://proxy:3128"}, "https://huggingface.co", "ALL_PROXY"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "huggingface.co"}, "https://huggingface.co", ""),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://127.0.0.1:8080", ""),
    ],
)
def test_the_proxy_variable_that_applies(monkeypatch, variables, endpoint, applies):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_variable(endpoint) == applies


def test_a_switch_set_after_the_import_is_said_to_have_no_effect(monkeypatch, tmp_path):
    library = SimpleNamespace(
        ENDPOINT="https://hub.example", HF_HUB_OFFLINE=False, HF_HUB_CACHE=str(tmp_path), HF_TOKEN_PATH=""
    )
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub.constants", library)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    evidence = HubCacheProbe().look(Failure.from_text("OSError: x"), Scene({}, live=True))
    told = {seen.what: seen.value for seen in evidence.seen}
    assert "without effect" in told["offline mode"]
    assert told["login"] == "HF_TOKEN"
    assert "hf_secret" not in repr(evidence)


@pytest.mark.parametrize("scheme", ["", "https://", "htps://"])
def test_a_login_in_the_address_of_the_hub_is_no_evidence(monkeypatch, tmp_path, scheme):
    address = f"{scheme}erin:s3cretpw@mirror.corp"
    library = SimpleNamespace(ENDPOINT=address, HF_HUB_OFFLINE=False, HF_HUB_CACHE=str(tmp_path), HF_TOKEN_PATH="")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub.constants", library)
    evidence = HubCacheProbe().look(Failure.from_text("OSError: x"), Scene({}, live=True))
    assert evidence["endpoint"] == f"{scheme}mirror.corp" and "s3cretpw" not in repr(evidence)


def test_a_cache_of_fifty_thousand_files_is_looked_at_in_time(tmp_path):
    folder = download(tmp_path, "config.json", "model.safetensors")
    for number in range(50_000):
        (folder / "snapshots" / COMMIT / f"a{number}").symlink_to(folder / "blobs" / "config.json")
    facts = cached(asked(tmp_path), Deadline(0.25))
    assert facts["complete"]
    assert len(facts["holds"]) < 1000


def test_links_in_a_circle_and_files_in_place_of_folders_are_nothing(tmp_path):
    folder = download(tmp_path, "config.json")
    snapshot = folder / "snapshots" / COMMIT
    (snapshot / "model.safetensors").symlink_to(snapshot / "model.safetensors")
    (snapshot / "onnx").symlink_to(snapshot)
    (folder / "refs" / "v1").mkdir()
    facts = cached(asked(tmp_path), Deadline(5))
    assert "config.json" in facts["holds"] and "model.safetensors" not in facts["holds"] and not facts["complete"]
    (tmp_path / "models--acme--odd").write_text("no folder")
    assert cached(asked(tmp_path, repo="acme/odd"), Deadline(5))["snapshots"] == ()


def test_a_cache_that_may_not_be_read_is_as_good_as_none(tmp_path):
    folder = download(tmp_path, "config.json")
    folder.chmod(0)
    nobody = os.geteuid() == 0  # who may read everything must become somebody else
    if nobody:
        os.seteuid(65534)
    try:
        facts = cached(asked(tmp_path, kind="configuration"), Deadline(5))
    finally:
        if nobody:
            os.seteuid(0)
        folder.chmod(0o755)
    assert (facts["commit"], facts["complete"]) == ("", False)


def test_a_hostile_name_leads_nowhere_outside_the_cache(tmp_path):
    (tmp_path / "secret" / "snapshots").mkdir(parents=True)
    facts = cached(asked(tmp_path / "hub", repo="../../secret; rm -rf ~/\"'é"), Deadline(5))
    assert facts["snapshots"] == ()


def test_the_address_that_a_call_or_its_client_was_given_is_the_one_that_counts(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HTTPS_PROXY", "http://erin:swordfish@127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError) as caught:
        hub.HfApi(endpoint="https://erin:swordfish@hub.example").model_info("acme/tiny")
    evidence = HubCacheProbe().look(Failure.from_exception(caught.value), Scene({}, exception=caught.value, live=True))
    assert (evidence["endpoint"], evidence["proxy"]) == ("https://hub.example", "HTTPS_PROXY")
    assert "swordfish" not in repr(evidence)
