from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule
from tfdiag_ipython.rules.imp._packages import package_of


class VersionConflict(Rule):
    """Two libraries are installed in versions that do not fit together, and one of them says so.

    *What it means*
    Transformers checks the versions of what it needs when it is imported, and stops: "tokenizers>=0.22,<0.23 is
    required for a normal functioning of this module, but found tokenizers==0.15.0".

    *Why it happens*
    Installing another package up- or downgraded the one named; or a second, older copy comes first on Python's path.

    *How tfdiag confirms it*
    It compares the version found by the library with the installed metadata and with the requirement.

    *Fixes and their safety*
    `install-fitting` is shown only, with the command: other packages may need the version that is there.

    *Example*
    transformers 4.57 beside huggingface_hub 1.2.

    *References*
    transformers: `dependency_versions_check.py`, `utils/versions.py`.
    """

    code = "IMP008"
    name = "version-conflict"
    raised = ("builtins.ImportError",)
    message = re.compile(
        r"(?<![\w.-])(?P<package>[\w.-]+)(?P<wanted>[<>=!~]\S{0,120}) is required for a normal functioning of this module, but "
        r"found "
        r"[\w.-]+==(?P<found>[\w.+-]+)"
    )
    needs = (PackageVersionsProbe,)
    fixes = (Offer("install-fitting", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text="ImportError: huggingface-hub>=0.34.0,<1.0 is required for a normal functioning of this module, but "
            "found huggingface-hub==1.2.3.\nTry: `pip install transformers -U`",
            certainty=Certainty.LIKELY,
            title="huggingface-hub 1.2.3 is too new: transformers needs >=0.34.0,<1.0",
            fixes=("install-fitting",),
        ),
        Match(
            text="ImportError: tokenizers>=0.22.0,<=0.23.0 is required for a normal functioning of this module, but "
            "found tokenizers==0.15.2.",
            title="tokenizers 0.15.2 is too old",
        ),
        NoMatch(text="ImportError: IProgress not found. Please update jupyter and ipywidgets."),
        Reproduce(
            (
                "from transformers.utils.versions import require_version",
                "require_version('tokenizers>=99', 'Try: pip install -U tokenizers')",
            ),
            title="tokenizers .* is too old: transformers needs >=99",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                "import pathlib, sys, tempfile\ninfo = pathlib.Path(tempfile.mkdtemp()) / 'tokenizers-0.15.2.dist-info'\n"
                "info.mkdir()\n(info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: tokenizers\\nVersion: 0.15.2')\n"
                "sys.path.insert(0, str(info.parent))  # an older copy comes first on Python's path",
                "import transformers",
            ),
            title=r"tokenizers 0\.15\.2 is too old: transformers needs >=0\.2",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        package, wanted, found = hit["package"], hit["wanted"], hit["found"].rstrip(".")
        seen = evidence[PackageVersionsProbe.name]
        module = package_of(package) or package.replace("-", "_")
        state = seen["packages"].get(module) if seen else None
        side = _side(wanted, found)
        title = f"{package} {found} is {side}: transformers needs {wanted}"
        if state and state["installed"] and state["installed"] != found:
            title = f"This kernel holds {package} {found}, installed is {state['installed']}: restart the kernel"
        return self.found(
            title,
            Certainty.CONFIRMED if state else Certainty.LIKELY,
            what=f"Transformers requires {package}{wanted} and found {found}.",
            why="Another installation changed it, or a second copy of it comes first on Python's path.",
            evidence=seen.seen,
            fixes=(self.offer("install-fitting", f'pip install "{package}{wanted}"', f"{THEN_RESTART}."),),
        )


def _side(wanted: str, found: str) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        version = Version(found)
        lower = [Version(one.version) for one in SpecifierSet(wanted) if one.operator in (">=", ">", "~=", "==")]
    except (InvalidSpecifier, InvalidVersion):
        return "of the wrong version"
    return "too old" if any(version < bound for bound in lower) else "too new"
