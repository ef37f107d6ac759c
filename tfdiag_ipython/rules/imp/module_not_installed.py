from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.install import REQUIREMENTS
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.other_pythons import OtherPythonsProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._packages import INSTALL_LOCALLY, plan_install

ECOSYSTEM = frozenset(
    [
        "accelerate",
        "bitsandbytes",
        "datasets",
        "diffusers",
        "einops",
        "evaluate",
        "huggingface_hub",
        "peft",
        "safetensors",
        "sentence_transformers",
        "sentencepiece",
        "tiktoken",
        "timm",
        "tokenizers",
        "torch",
        "torchaudio",
        "torchvision",
        "transformers",
        "trl",
    ]
)
"""Modules whose absence is this rule's business; a missing pandas is not."""


class ModuleNotInstalled(Rule):
    """A library of the Hugging Face or PyTorch family is not installed for this interpreter.

    *What it means*
    Python looked in every folder of its path and found no such module.

    *Why it happens*
    The package was never installed, or `pip` belongs to another Python than the kernel: then it is "already satisfied"
    over there.

    *How tfdiag confirms it*
    The installed metadata of this very interpreter has no such package. It also looks whether the Python behind the
    command `pip` is another one, and has it.

    *Fixes and their safety*
    `install` (unsafe: it changes the environment; the command is shown first) calls pip with the kernel's own
    interpreter.

    *Example*
    `import einops` where it is not installed.

    *References*
    Python: "Installing Python Modules".
    """

    code = "IMP005"
    name = "module-not-installed"
    raised = ("builtins.ImportError",)
    message = re.compile(r"No module named ['\"‘`]?(?P<module>\w+)(?P<inner>(?:\.\w+)*)['\"’`]?")
    needs = (PackageVersionsProbe, OtherPythonsProbe)
    fixes = (Offer("install", Applicability.UNSAFE),)
    CASES = (
        Match(
            text="ModuleNotFoundError: No module named 'transformers'",
            certainty=Certainty.LIKELY,
            title="`transformers` is not installed for the Python that ran this",
            fixes=("install",),
        ),
        NoMatch(text="ModuleNotFoundError: No module named 'pandas'"),
        NoMatch(text="ModuleNotFoundError: No module named 'transformers.modeling_bert'", code="IMP006"),
        Reproduce(
            (INSTALL_LOCALLY.format(packages=[("einops", "einops")]), "import einops  # for the remote code"),
            title="`einops` is not installed",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("install"),),
            isolated=True,
        ),
        Reproduce(
            (
                INSTALL_LOCALLY.format(packages=[("einops", "einops")])
                + "import venv\nother = pathlib.Path(tempfile.mkdtemp())\nvenv.create(other)\n"
                "(next(other.glob('lib/python3*/site-packages')) / 'einops').mkdir()\n"
                "(other / 'bin' / 'pip').write_text(f'#!{other}/bin/python\\n')\n(other / 'bin' / 'pip').chmod(0o755)\n"
                "os.environ['PATH'] = f'{other}/bin:' + os.environ['PATH']  # as where a terminal's pip is another one",
                "import einops",
            ),
            title="`einops` is installed for .*/bin/python, which is not this kernel's Python",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("install"),),
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        module, seen = hit["module"], evidence[PackageVersionsProbe.name]
        if module not in ECOSYSTEM or hit["inner"]:
            return None
        state = seen["packages"].get(module) if seen else None
        if state and (state["installed"] or state["loaded"]):
            return None
        fixes: tuple[Fix, ...] = ()
        if module in REQUIREMENTS:
            told = f"`%pip install {REQUIREMENTS[module]}`: into the kernel's own environment."
            fixes = (self.offer("install", f"Install {REQUIREMENTS[module]}", told, module=module),)
        where = "for the Python that ran this" if not state else "for this kernel's Python"
        others = evidence[OtherPythonsProbe.name]
        title, why = (
            f"`{module}` is not installed {where}",
            "It was never installed, or installed with the pip of another Python.",
        )
        if state and others and others["elsewhere"]:
            title = f"`{module}` is installed for {others['elsewhere'][-70:]}, which is not this kernel's Python"
            why = f"This kernel runs {others['kernel']}: install it with the pip of that Python (%pip install, not !pip install)."
        elif state and others and others["pip"]:
            why = f"The command pip installs for {others['pip'][-90:]}, not for this kernel's Python: use %pip install."
        return self.found(
            title,
            Certainty.CONFIRMED if state else Certainty.LIKELY,
            what=f"No folder on Python's path holds a module `{module}`.",
            why=why,
            evidence=(*seen.seen, *others.seen),
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        return plan_install(scene, str(fix.parameters["module"]))
