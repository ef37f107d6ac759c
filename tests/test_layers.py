"""Imports only point down, and loading stays light: proven in a fresh interpreter and on the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfdiag_ipython

ROOT = Path(tfdiag_ipython.__file__).parent
HEAVY = ("torch", "transformers", "ipywidgets", "numpy", "jinja2", "libcst", "nbformat", "tensorflow")


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy_and_no_ipython():
    loaded = loaded_after("import tfdiag_ipython")
    assert not loaded & {*HEAVY, "IPython"}


def test_loading_the_extension_imports_nothing_heavy():
    shell = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell()\n"
    before = loaded_after(shell)
    after = loaded_after(f"{shell}shell.run_line_magic('load_ext', 'tfdiag_ipython')")
    assert not {name for name in after - before if name.split(".")[0] in HEAVY}


def test_rules_and_probes_import_neither_torch_nor_transformers():
    loaded = loaded_after("from tfdiag_ipython.registry import load_registry\nr = load_registry(); r.probes()")
    assert not loaded & {*HEAVY, "IPython"}


def module_imports(file: Path) -> set[str]:
    """Top-level packages that a module imports when it is imported (not inside its functions)."""
    tree = ast.parse(file.read_text())
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(("package", "ring"), [("IPython", "shell"), ("ipywidgets", "render")])
def test_only_its_ring_knows_it(package, ring):
    outside = [
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if file.relative_to(ROOT).parts[0] != ring
        and f"import {package}" in file.read_text().replace("from ", "import ")
    ]
    assert outside == []


@pytest.mark.parametrize("ring", ["rules", "probes", "fixes", "watch"])
def test_lower_rings_import_nothing_above_them(ring):
    above = ("tfdiag_ipython.shell", "tfdiag_ipython.render", "tfdiag_ipython.engine", "tfdiag_ipython.registry")
    culprits = [
        str(file.relative_to(ROOT))
        for file in (ROOT / ring).rglob("*.py")
        if any(name in file.read_text() for name in above)
    ]
    assert culprits == []


def test_optional_libraries_are_never_imported_at_module_level():
    culprits = {
        str(file.relative_to(ROOT)): sorted(module_imports(file) & set(HEAVY))
        for file in ROOT.rglob("*.py")
        if module_imports(file) & set(HEAVY) and file.name != "view.py"
    }
    assert culprits == {}
