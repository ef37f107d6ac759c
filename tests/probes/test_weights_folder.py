"""What a file really is, whatever it is called."""

import json
import zipfile

import pytest

from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.weights_folder import WeightsFolderProbe, examine, weight_files
from tfdiag_ipython.sizes import file_size

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
        ("pytorch_model.bin", b"\x89HDF\r\n\x1a\n" + bytes(8), "HDF5 (Keras weights), 16 bytes: cut short: 16 bytes"),
        ("w.index", b"\0\0\x1f_CHECKPOINTABLE_OBJECT_GRAPH\1", "TensorFlow 2 checkpoint (save_weights), 32 bytes"),
        ("w.data-00000-of-00001", b"\0", "part of a TensorFlow checkpoint, 1 bytes"),
        ("x.keras", b"PK\x03\x04" + bytes(100), "Keras archive, 104 bytes: cut short: the archive's end is missing"),
        ("bert_model.ckpt.index", b"\0\1\2", "TensorFlow 1 checkpoint, 3 bytes"),
    ],
)
def test_a_file_is_told_by_its_bytes(tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content)
    assert examine(path).told == told


def test_the_three_uses_that_keras_makes_of_hdf5_are_told_apart(tmp_path):
    import shutil
    from pathlib import Path

    h5py = pytest.importorskip("h5py")
    path = tmp_path / "tf_model.h5"
    saved = Path(__file__).parent.parent / "data" / "tf" / "gpt2-LMHeadModel" / "tf_model.h5"
    shutil.copy(saved, path)
    assert examine(path).told == f"HDF5 (Keras weights), {file_size(saved.stat().st_size)}"
    path.write_bytes(saved.read_bytes()[:20_000])
    assert examine(path).problem == f"cut short: 20 kB of {file_size(saved.stat().st_size)}"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_group("model_weights").attrs["layer_names"] = [b"dense"]
    assert examine(path).kind == "HDF5 (whole Keras model)"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = [1.0]
        file.create_group("vars")
    assert examine(path).kind == "HDF5 (Keras weights without names, .weights.h5)"


def test_missing_shards_are_named_and_a_broken_index_is_said(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "../x"}}))
    (tmp_path / "model-1.safetensors").write_bytes(WHOLE)
    scene = Scene({}, live=True)
    seen = WeightsFolderProbe().ask(str(tmp_path), scene)
    assert (seen["shards"], seen["lacking"], seen["index_problem"]) == (3, ("model-2.safetensors",), "")
    for text in ('{"weight_map": {"a": "mod', "[]", '{"weight_map": 3}', "[" * 100_000):
        index.write_text(text)
        assert "cannot be read as an index" in WeightsFolderProbe().ask(str(tmp_path), scene)["index_problem"]


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
