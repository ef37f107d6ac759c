from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.restart import THEN_RESTART
from tfdiag_ipython.probe import Evidence
from tfdiag_ipython.probes.installed_symbols import LIBRARIES
from tfdiag_ipython.probes.requirements import RequirementsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule

OLD_SIBLING = """
import pathlib, sys, tempfile
folder = pathlib.Path(tempfile.mkdtemp())
for file, text in {
    "peft/__init__.py": "__version__ = '99.0'\\nfrom transformers import TomorrowsCache",
    "peft-99.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: peft\\nVersion: 99.0\\nRequires-Dist: transformers>=99.1",
}.items():
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(text)
sys.path.insert(0, str(folder))  # a package that is newer than the transformers beside it
"""


class SiblingMismatch(Rule):
    """A package was installed beside a release of another one that it does not fit, and stumbles over a name that is not there.

    *What it means*
    Not the notebook asks for the missing name, but an installed package, and its own metadata says that it needs another release of the
    library that lacks it.

    *Why it happens*
    `pip install --no-deps`, two installations in one environment, or an upgrade of one of the two by another package.

    *How tfdiag confirms it*
    It reads `Requires-Dist` in the metadata of the installed packages of the family (transformers, huggingface_hub, tokenizers, accelerate,
    peft, numpy, …) and holds it against what is installed. It speaks only where a requirement is broken.

    *Fixes and their safety*
    `install-fitting` is shown only, with the command: which of the two is to change is the person's decision.

    *Example*
    `import peft` with a peft that needs a newer transformers: `cannot import name 'HybridCache' from 'transformers'`.

    *References*
    Python packaging: "Core metadata specifications", `Requires-Dist`.
    """

    code = "IMP017"
    name = "sibling-mismatch"
    specific = True
    raised = ("builtins.ImportError", "builtins.AttributeError", "builtins.RuntimeError")
    message = re.compile(
        rf"cannot import name '\w+' from '(?P<module>{LIBRARIES}|numpy)(?:\.[\w.]+)?'"
        rf"|module '?(?P<owner>{LIBRARIES}|numpy)(?:\.[\w.]+)?'? has no attribute"
        rf"|No module named '(?P<parent>{LIBRARIES}|numpy)\.[\w.]+'"
    )
    needs = (RequirementsProbe,)
    fixes = (Offer("install-fitting", Applicability.DISPLAY_ONLY),)
    CASES = (
        Match(
            text="ImportError: cannot import name 'is_offline_mode' from 'huggingface_hub' (/x/huggingface_hub/__init__.py)",
            evidence={
                "requirements": {
                    "asking": "transformers",
                    "broken": (
                        {
                            "package": "transformers",
                            "version": "5.1.0",
                            "needs": "huggingface-hub",
                            "wanted": ">=1.3,<2",
                            "found": "0.36.2",
                        },
                    ),
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"transformers 5\.1\.0 needs huggingface-hub>=1\.3,<2, installed is 0\.36\.2",
            fixes=("install-fitting",),
        ),
        NoMatch(
            text="ImportError: cannot import name 'is_offline_mode' from 'huggingface_hub' (/x/huggingface_hub/__init__.py)",
            code="IMP003",
        ),
        Reproduce(
            ("import transformers\n" + OLD_SIBLING, "import peft"),
            title=r"peft 99\.0 needs transformers>=99\.1, installed is \d",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[RequirementsProbe.name]
        lacking = (hit["module"] or hit["owner"] or hit["parent"]).replace("_", "-")
        asking = str(seen["asking"]) if seen else ""
        if not asking or asking == lacking:
            return None  # the person's own code, or the library itself
        broken = [one for one in seen["broken"] if {one["package"], one["needs"]} == {asking, lacking}]
        if not broken:
            return None
        one = broken[0]
        need = f"{one['needs']}{one['wanted']}"
        return self.found(
            f"{one['package']} {one['version']} needs {need}, installed is {one['found']}",
            Certainty.CONFIRMED,
            what=f"{asking} asks {lacking} for a name that this release does not have.",
            why="By the requirement in the installed metadata they do not fit: one of the two must change.",
            evidence=seen.seen,
            fixes=(self.offer("install-fitting", f'pip install "{need}"', f"{THEN_RESTART}."),),
        )
