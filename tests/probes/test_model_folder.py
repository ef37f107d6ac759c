"""What the probe of a folder sees, and that hostile folders and names cost nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.model_folder import MOST_BYTES, ModelFolderProbe


def look(place: object) -> Evidence:
    """What is seen when a loader of this file fails on ``place``."""

    def from_pretrained(pretrained_model_name_or_path: object) -> None:
        raise ValueError(f"Unrecognized model in {pretrained_model_name_or_path}")

    try:
        from_pretrained(place)
    except ValueError as error:
        return ModelFolderProbe().look(Failure.from_exception(error), Scene(exception=error))
    raise AssertionError


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"adapter_config.json": "{}"}, "adapter"),
        ({"model_index.json": '{"_class_name": "X"}', "config.json": "{}"}, "diffusers"),
        ({"config.json": '{"_diffusers_version": "1"}'}, "diffusers-part"),
        ({"modules.json": "[]", "model.safetensors": ""}, "sentence-transformers"),
        ({"config.json": '{"architecture": "resnet18"}', "model.safetensors": ""}, "timm"),
        ({"x.gguf": ""}, "gguf"),
        ({"config.json": '{"model_type": "bert"}', "model.onnx": ""}, "onnx"),
        ({"config.json": '{"model_type": "bert"}', "model.onnx": "", "model.safetensors": ""}, "model"),
        ({"modules.json": "[]", "config.json": '{"model_type": "bert"}', "model.safetensors": ""}, "model"),
        ({"adapter_config.json": "{}", "config.json": '{"model_type": "bert"}'}, "model"),
        ({"model-00001-of-00002.safetensors": ""}, "weights-only"),
        ({"README.md": ""}, "other"),
        ({}, "empty"),
    ],
)
def test_the_kind_is_told_by_the_file_that_only_its_library_writes(
    tmp_path: Path, files: dict[str, str], kind: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert look(tmp_path)["kind"] == kind


def test_the_configuration_is_found_among_thousands_of_files(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"a{number}.txt").touch()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert look(tmp_path)["model_type"] == "bert"


@pytest.mark.parametrize("name", ["a;b'c", 'x"y', "модель", "$(touch pwned)", "<b>", "x\ny", "\u202egpj"])
def test_odd_names_are_shown_as_one_line_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    shown = look(tmp_path / name)["shown"]
    assert shown.isprintable()
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("place", ["a\x00b", "../../no/such/folder", "x" * 5000, "acme/never-cached", 7, None])
def test_what_is_no_folder_is_said_and_raises_nothing(place: object) -> None:
    seen = look(place)
    assert not seen
    assert seen.missing


@pytest.mark.parametrize("text", ["[1, 2]", "not json", "", "[" * 100_000, '{"architectures": 3, "auto_map": []}'])
def test_a_configuration_that_is_no_object_names_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    seen = look(tmp_path)
    assert (seen["config"], seen["model_type"], seen["architectures"], seen["auto_map"]) == (True, "", (), {})


def test_a_huge_configuration_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "x": "a" * MOST_BYTES}))
    assert look(tmp_path)["model_type"] == ""


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "gone")
    assert look(tmp_path)["dangling"] == ("config.json",)
