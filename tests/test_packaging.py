"""What people install: the wheel has both names, its entry points and its data, and works in an environment of its own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOADS = """
import pathlib, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()

def hooks():
    return {event: list(functions) for event, functions in shell.events.callbacks.items()}

before = hooks()
shell.run_line_magic("load_ext", sys.argv[1])
once = hooks()
assert once != before, "nothing was hooked"
for name in sys.argv[1:]:
    shell.run_line_magic("load_ext", name)
assert hooks() == once, "hooked more than once"
import tfdiag, tfdiag_ipython
prefix = pathlib.Path(sys.prefix).resolve()
assert prefix in pathlib.Path(tfdiag.__file__).resolve().parents, tfdiag.__file__
assert tfdiag.diagnose_text("ValueError: x") == []
assert tfdiag.diagnose is tfdiag_ipython.diagnose
shell.run_line_magic("unload_ext", sys.argv[-1])
assert hooks() == before, "a hook stayed"
print(pathlib.Path(tfdiag_ipython.__file__).resolve().parent)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    _run(command)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, wheel, tmp_path_factory):
    """How it was installed, and an environment that sees this one's packages, but tfdiag only as it was just installed."""
    environment = tmp_path_factory.mktemp("env")
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    (site,) = (environment / "lib").glob("python*/site-packages")
    (site / "zz_others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment / "bin" / "python")]
    target = [str(wheel)] if request.param == "wheel" else ["-e", str(ROOT)]
    _run([*pip, "install", "-q", "--no-deps", "--no-build-isolation", "--ignore-installed", *target])
    return request.param, environment


def _run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_has_both_names_templates_and_entry_points(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"tfdiag.py", "tfdiag_ipython/__init__.py", "tfdiag_ipython/py.typed"} <= names
    assert any(name.startswith("tfdiag_ipython/render/templates/") for name in names)
    assert not [name for name in names if not name.startswith(("tfdiag.py", "tfdiag_ipython/", "tfdiag_ipython-"))]
    (entries,) = [name for name in names if name.endswith("entry_points.txt")]
    text = zipfile.ZipFile(wheel).read(entries).decode()
    assert "[tfdiag.rules]" in text and "tfdiag = tfdiag_ipython.cli:main" in text


def test_wheel_has_every_file_of_the_package_that_git_keeps(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "tfdiag_ipython"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode or not tracked.stdout:
        pytest.skip("not a git checkout")
    kept = {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    kept.remove("tfdiag_ipython/_tfdiag.py")  # shipped as tfdiag.py
    assert kept <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("names", [("tfdiag", "tfdiag_ipython", "tfdiag"), ("tfdiag_ipython", "tfdiag")])
def test_both_names_load_in_any_order_with_one_set_of_hooks(names, installed, tmp_path):
    how, environment = installed
    shown = _run([str(environment / "bin" / "python"), "-c", LOADS, *names], cwd=tmp_path)
    where = Path(shown.splitlines()[-1])
    assert where == ROOT / "tfdiag_ipython" if how == "editable" else environment.resolve() in where.parents


def test_the_command_is_installed(installed, tmp_path):
    _, environment = installed
    assert "CFG001" in _run([str(environment / "bin" / "tfdiag"), "rules"], cwd=tmp_path)


def test_mybinder_gets_the_versions_that_are_tested():
    lines = (ROOT / "binder" / "environment.yml").read_text().splitlines()
    pinned = {line.strip().removeprefix("- ") for line in lines if "==" in line}
    tested = {line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert len(pinned) > 10 and pinned <= tested
