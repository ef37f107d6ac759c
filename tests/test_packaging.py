"""What people install: the wheel has both names, its entry points and its data, and works in an environment of its own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOADS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = {event: list(functions) for event, functions in shell.events.callbacks.items()}
for name in ("tfdiag", "tfdiag_ipython", "tfdiag"):
    shell.run_line_magic("load_ext", name)
added = [event for event in before if len(shell.events.callbacks[event]) > len(before[event]) + 1]
assert not added, added
import tfdiag
assert tfdiag.diagnose_text("ValueError: x") == []
print("both names work")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


def test_wheel_has_both_names_templates_and_entry_points(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"tfdiag.py", "tfdiag_ipython/__init__.py", "tfdiag_ipython/py.typed"} <= names
    assert any(name.startswith("tfdiag_ipython/render/templates/") for name in names)
    (entries,) = [name for name in names if name.endswith("entry_points.txt")]
    text = zipfile.ZipFile(wheel).read(entries).decode()
    assert "[tfdiag.rules]" in text and "tfdiag = tfdiag_ipython.cli:main" in text


@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_both_names_load_in_any_order_with_one_set_of_hooks(how, wheel, tmp_path):
    """The environment sees this one's packages, but tfdiag only as it was just installed into it."""
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = (environment / "lib").glob("python*/site-packages")
    python = environment / "bin" / "python"
    base = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--prefix",
        str(environment),
    ]
    target = [str(wheel)] if how == "wheel" else ["-e", str(ROOT)]
    subprocess.run([*base, "--ignore-installed", *target], check=True, capture_output=True)
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "zz_others.pth").write_text("\n".join(ours))
    done = subprocess.run([str(python), "-c", LOADS], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "both names work" in done.stdout
