"""What the rules about missing packages share: names as messages write them, plans, and a local index for their
cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tfdiag_ipython.errors import PlanError
from tfdiag_ipython.fix import Host
from tfdiag_ipython.fixes.install import REQUIREMENTS, InstallPackages
from tfdiag_ipython.probe import Scene

_SPOKEN = {"pytorch": "torch", "scikit-learn": "sklearn", "pillow": "PIL", "datasets": "datasets"}

INSTALL_LOCALLY = """\
import os, pathlib, sys, tempfile, zipfile
index, target = pathlib.Path(tempfile.mkdtemp()), tempfile.mkdtemp()
for name, module in {packages}:
    info = name + "-99.0.dist-info"
    files = {{
        module + "/__init__.py": "__version__ = '99.0'\\n",
        info + "/METADATA": "Metadata-Version: 2.1\\nName: " + name + "\\nVersion: 99.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: cell\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    with zipfile.ZipFile(index / (name + "-99.0-py3-none-any.whl"), "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(info + "/RECORD", "".join(file + ",,\\n" for file in [*files, info + "/RECORD"]))
os.environ.pop("PIP_CONSTRAINT", None)
os.environ.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
os.environ.update(PIP_FIND_LINKS=str(index), PIP_TARGET=target)
sys.path.insert(0, target)  # what pip installs from here on lands in this folder
"""
"""A cell that gives pip a folder with a wheel of each package (name, module) as its only index, and an empty folder as
its target: a real installation that leaves the environment alone."""


def package_of(spoken: str) -> str | None:
    """The import name, in tfdiag's table, of a package as a message writes it ("SentencePiece", "PIL", "PyTorch")."""
    plain = spoken.strip().lower()
    known = {name.lower(): name for name in REQUIREMENTS} | {spec.lower(): name for name, spec in REQUIREMENTS.items()}
    return _SPOKEN.get(plain) or known.get(plain) or known.get(plain.replace("-", "_"))


def host_of(scene: Scene) -> Host:
    """The scene's host; :class:`PlanError` where there is none."""
    if scene.host is None:
        raise PlanError("There is no running program to change: do it by hand.")
    return scene.host


def plan_install(
    scene: Scene, *modules: str, asked_by: str = "", releases: Mapping[str, str] = MappingProxyType({})
) -> InstallPackages:
    """Install the packages of these modules, in releases that will do, and run the failing cell again."""
    reruns = (scene.cell,) if scene.cell else ()
    return InstallPackages(host_of(scene), modules, reruns=reruns, asked_by=asked_by, releases=releases)
