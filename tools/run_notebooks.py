"""Execute the notebooks in place, so that their stored outputs are what this version really shows: ``make notebooks``.

A cell tagged ``raises-exception`` may fail; any other failure ends the run. Only what a reader sees is kept: no times, no widget state.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
MADE = ("models", "hub", "out")
"""Folders that the notebooks make."""


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
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, file)
    print(file.name, len(notebook.cells), "cells", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(path.name for path in FOLDER.glob("*.ipynb"))
    for name in names:
        run(FOLDER / Path(name).name)
