"""What a file really is, whatever it is called."""

import json
import zipfile

import pytest

from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.weights_folder import WeightsFolderProbe, examine, weight_files

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 437972328\n"
HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
WHOLE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("model.safetensors", WHOLE, f"safetensors, {len(WHOLE)} bytes"),
        (
            "model.safetensors",
            WHOLE[:-3],
            f"safetensors, {len(WHOLE) - 3} bytes: cut short: {len(WHOLE) - 3} bytes of {len(WHOLE)} bytes",
        ),
        ("model.safetensors", WHOLE[:20], "safetensors, 20 bytes: cut short in its header"),
        ("model.safetensors", POINTER, "Git LFS pointer, 134 bytes: a text of 134 bytes in place of the real 438 MB"),
        ("model.safetensors", b"", "empty file, 0 bytes: it holds nothing"),
        (
            "model.safetensors",
            b"\x02\0\0\0\0\0\0\0[]",
            "safetensors, 10 bytes: its header is not the JSON that safetensors writes",
        ),
        ("pytorch_model.bin", b"<!DOCTYPE html><html>", "web page, 21 bytes: a page was saved in place of the file"),
        (
            "pytorch_model.bin",
            b"PK\x03\x04" + bytes(100),
            "PyTorch archive, 104 bytes: cut short: the archive's end is missing",
        ),
        ("pytorch_model.bin", b"\x80\x02}q\0.", "pickle (PyTorch), 6 bytes"),
        ("pytorch_model.bin", b"\x89HDF\r\n\x1a\n" + bytes(8), "HDF5 (Keras weights), 16 bytes"),
        ("bert_model.ckpt.index", b"\0\1\2", "TensorFlow 1 checkpoint, 3 bytes"),
    ],
)
def test_a_file_is_told_by_its_bytes(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content)
    assert examine(path).told == told


def test_a_whole_archive_is_not_called_damaged(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert examine(path).problem == ""


def test_asked_for_a_folder_it_lists_weights_and_where_else_they_are(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    for step in (500, 1500):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").write_bytes(WHOLE)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "saved_model.pb").write_bytes(b"x")
    scene = Scene({}, live=True)
    seen = WeightsFolderProbe().ask(str(tmp_path), scene)
    assert [(file.name, file.framework) for file in weight_files(seen)] == [("export/", "tensorflow")]
    assert seen["model_type"] == "bert" and seen["below"] == ()
    (tmp_path / "export" / "saved_model.pb").unlink()
    assert WeightsFolderProbe().ask(str(tmp_path), scene)["below"] == ("checkpoint-1500", "checkpoint-500")


def test_a_path_that_is_not_there_is_said(tmp_path):
    assert (
        "there is no file or folder"
        in WeightsFolderProbe().ask(str(tmp_path / "nowhere"), Scene({}, live=True)).missing
    )
