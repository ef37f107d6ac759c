"""Programs in files: every byte that need not change stays."""

import json

import pytest

from tfdiag_ipython.errors import InputError
from tfdiag_ipython.migrate.files import read_program

OUTPUT = '{"output_type": "stream",   "name": "stdout", "text": ["\\u00e4\\n"]}'
NOTEBOOK = """\
{ "cells": [
  {"id": "a1", "cell_type": "markdown", "metadata": {}, "source": ["# Title\\n", "source"]},
   {
   "cell_type": "code", "id": "b2", "execution_count": 7,
   "metadata": {"source": ["x"], "tags": [ ]},
   "outputs": [ OUTPUT ],
   "source": [
    "a = 'é'\\n",
    "b = 'x\\u00fc'\\n",
    "c = 1"
   ]
  },
  {"cell_type": "code", "id": "c3", "metadata": {}, "execution_count": null, "outputs": [], "source": "one = 1\\ntwo = 2"},
  {"cell_type": "code", "id": "d4", "metadata": {}, "execution_count": null, "outputs": [], "source": []}
 ],
 "metadata": {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}, "custom":   1.50},
 "nbformat": 4, "nbformat_minor": 5
}
""".replace("OUTPUT", OUTPUT)


def program(tmp_path, text, name="n.ipynb"):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_program(str(file))


def test_cells_are_numbered_as_they_stand_in_the_notebook(tmp_path):
    cells = program(tmp_path, NOTEBOOK).cells
    assert [cell.label for cell in cells] == ["cell 2", "cell 3", "cell 4"]
    assert cells[0].source == "a = 'é'\nb = 'xü'\nc = 1"


def test_only_the_changed_lines_of_a_notebook_change(tmp_path):
    file = program(tmp_path, NOTEBOOK)
    assert file.rewritten({}) == NOTEBOOK.encode()
    new = file.rewritten({0: "import os\na = 'é'\nb = 'xü'\nc = 2"}).decode()
    assert new == NOTEBOOK.replace('    "a = ', '    "import os\\n",\n    "a = ').replace('"c = 1"', '"c = 2"')
    changed = file.rewritten({1: "one = 1\ntwo = 'ß'"}).decode()
    assert changed == NOTEBOOK.replace("two = 2", "two = 'ß'")


def test_a_notebook_of_plain_ascii_stays_so(tmp_path):
    text = json.dumps(json.loads(NOTEBOOK), indent=1)
    new = program(tmp_path, text).rewritten({1: "x = 'ß'"}).decode()
    assert new.isascii() and json.loads(new)["cells"][2]["source"] == "x = 'ß'"


def test_a_byte_order_mark_stays(tmp_path):
    data = b"\xef\xbb\xbf" + NOTEBOOK.encode()
    assert program(tmp_path, data).rewritten({}) == data


def test_a_script_keeps_its_encoding_and_line_ends(tmp_path):
    data = "# -*- coding: latin-1 -*-\r\nx = 'ü'\r\n".encode("latin-1")
    file = program(tmp_path, data, "s.py")
    assert file.rewritten({}) == data
    assert file.rewritten({0: file.cells[0].source.replace("x", "y")}) == data.replace(b"x =", b"y =")


def test_writing_keeps_the_mode_and_leaves_nothing_behind(tmp_path):
    file = program(tmp_path, "x = 1\n", "s.py")
    file.path.chmod(0o755)
    file.write({0: "y = 1\n"})
    assert file.path.read_text() == "y = 1\n" and file.path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["s.py"]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.ipynb", b"", "not a notebook"),
        ("a.ipynb", b"{", "not a notebook"),
        ("a.ipynb", b"\xff\xfe\x00", "not a notebook"),
        ("a.ipynb", b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [1]}', "not a notebook"),
        ("a.ipynb", b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}', "format 3"),
        ("a.ipynb", NOTEBOOK.replace('"language": "python"', '"language": "R"').encode(), "in R, not in Python"),
        ("a.ipynb", NOTEBOOK.replace('"source": []', '"source": [], "source": ["1"]').encode(), "repeats a key"),
        ("a.py", b"", "empty"),
        ("a.py", b"x = '\xff'", "encoding that it declares"),
        ("a.py", b"# coding: nonsense\n", "encoding that it declares"),
        ("a.txt", b"x", "neither a notebook"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, name, data, told):
    with pytest.raises(InputError, match=told) as caught:
        program(tmp_path, data, name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    (tmp_path / "d.py").mkdir()
    for name in ("none.ipynb", "d.py"):
        with pytest.raises(InputError, match="cannot be read"):
            read_program(str(tmp_path / name))
