"""Execute the notebooks in place, so that their stored outputs are what this version really shows: ``make notebooks``.

A cell tagged ``raises-exception`` may fail; any other failure ends the run. Only what a reader sees is kept: no times, no widget state.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
MADE = ("models", "hub", "out")
"""Folders that the notebooks make."""
PLACES = (
    (re.escape(str(FOLDER.parent)), "/home/me/tfdiag"),
    (re.escape(sys.prefix), "/home/me/tfdiag/.venv"),
    (re.escape(sysconfig.get_paths()["stdlib"]), "/usr/lib/python3"),
    (r"/\S*?/ipykernel_\d+/\d+\.py", "/tmp/ipykernel_1/1.py"),
)
"""What is this machine's own in a path, and what a reader sees instead."""


def neutral(value: Any) -> Any:
    """An output without this machine's own paths."""
    if isinstance(value, str):
        for pattern, replacement in PLACES:
            value = re.sub(pattern, replacement, value)
        return value
    if isinstance(value, list):
        return [neutral(item) for item in value]
    if isinstance(value, dict):
        return nbformat.from_dict({key: neutral(item) for key, item in value.items()})
    return value


def run(file: Path) -> None:
    """Execute one notebook and write it back."""
    for name in MADE:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
        store_widget_state=False,
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = neutral(cell.outputs)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, file)
    print(file.name, len(notebook.cells), "cells", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(path.name for path in FOLDER.glob("*.ipynb"))
    for name in names:
        run(FOLDER / f"{Path(name).stem}.ipynb")
