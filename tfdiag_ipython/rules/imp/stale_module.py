from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.restart import LOST, RESTART, restart
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.installed_symbols import WANTED
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import read, stale


class StaleModule(Rule):
    """The kernel still holds the version that was loaded before another one was installed.

    *What it means*
    The installed release has the name, or may have it; this process runs the older one until it ends.

    *Why it happens*
    `pip install -U` in a notebook replaces files; modules that are loaded stay as they are, and parts loaded later come
    from the new release, which does not fit.

    *How tfdiag confirms it*
    `__version__` of the loaded module differs from the installed metadata.

    *Fixes and their safety*
    `restart-kernel` (unsafe: all variables are lost).

    *Example*
    `!pip install -U transformers`, then an import of a new class in the same kernel.

    *References*
    Python: `importlib.metadata`.
    """

    code = "IMP010"
    name = "stale-module"
    raised = ("builtins.ImportError", "builtins.AttributeError", "builtins.ValueError")
    message = WANTED
    needs = (PackageVersionsProbe,)
    fixes = (Offer("restart-kernel", Applicability.UNSAFE),)
    CASES = (
        Match(
            text="ImportError: cannot import name 'Qwen3Model' from 'transformers' (/x/transformers/__init__.py)",
            evidence={
                "package-versions": {
                    "packages": {"transformers": {"loaded": "4.46.0", "installed": "5.23.0"}},
                    "stale": ("transformers",),
                }
            },
            certainty=Certainty.CONFIRMED,
            title="This kernel still holds transformers 4.46.0, installed is 5.23.0",
            fixes=("restart-kernel",),
        ),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'transformers' (x.py)", code="IMP002"),
        Reproduce(
            (
                "import pathlib, sys, tempfile, transformers\n"
                "info = pathlib.Path(tempfile.mkdtemp()) / 'transformers-99.0.dist-info'\ninfo.mkdir()\n"
                "(info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: transformers\\nVersion: 99.0\\n')\n"
                "sys.path.insert(0, str(info.parent))  # what an upgrade leaves for the next process to find",
                "from transformers import TomorrowForCausalLM",
            ),
            title="This kernel still holds transformers .*, installed is 99.0: restart",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("restart-kernel", Status.PENDING),),
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name = read(failure, hit)
        versions = stale(evidence, name.library) if name else None
        if name is None or versions is None:
            return None
        loaded, installed = versions
        return self.found(
            f"This kernel still holds {name.library} {loaded}, installed is {installed}: restart the kernel",
            Certainty.CONFIRMED,
            what=f"`{name.symbol}` was asked of the release that was loaded before the installation.",
            why="A module that is loaded stays as it is until its process ends.",
            evidence=evidence[PackageVersionsProbe.name].seen,
            fixes=(self.offer("restart-kernel", RESTART, LOST),),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return restart(scene)
