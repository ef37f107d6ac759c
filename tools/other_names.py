"""Write ``tfdiag_ipython/data/other_names.json``: names that people know from other libraries, in an environment that has these.

``python tools/other_names.py``. It prints what it skipped.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "tfdiag_ipython" / "data" / "other_names.json"
OWNERS = {
    "numpy": ("numpy", "numpy.linalg", "numpy.random", "numpy:ndarray"),
    "pandas": ("pandas", "pandas:DataFrame", "pandas:Series"),
    "keras": ("keras", "keras.ops", "keras.activations", "keras:Model", "keras:Sequential", "keras:Variable"),
    "scikit-learn": ("sklearn.linear_model:LogisticRegression", "sklearn.decomposition:PCA", "sklearn.cluster:KMeans"),
}


def main() -> None:
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    versions, table, taken = [], {}, set[str]()
    for library, owners in OWNERS.items():
        names: set[str] = set()
        for place, _, kind in (owner.partition(":") for owner in owners):
            try:
                module = importlib.import_module(place)
            except ImportError as error:
                print(f"skipped {place}: {error}")
                continue
            names |= {name for name in dir(getattr(module, kind) if kind else module) if plain(name)}
        table[library] = " ".join(sorted(names - taken))
        taken |= names
        versions.append(f"{library} {getattr(importlib.import_module(place.split('.')[0]), '__version__', '?')}")
    about = f"Functions and methods of {', '.join(versions)}, each under the first library that has it; by tools/other_names.py."
    TARGET.write_text(json.dumps({"about": about, "names": table}, indent=0) + "\n", "utf-8")


def plain(name: str) -> bool:
    """Names of functions and methods: classes are told apart by their capitals, and shorter ones are never taken for a slip."""
    return name.islower() and not name.startswith("_") and len(name) >= 4


if __name__ == "__main__":
    main()
