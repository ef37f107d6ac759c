from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Status
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.install import REQUIREMENTS
from tfdiag_ipython.fixes.restart import LOST, RESTART, THEN_RESTART, restart
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._packages import INSTALL_LOCALLY, package_of, plan_install
from tfdiag_ipython.rules.imp._symbols import older


class MissingBackend(Rule):
    """A class or option of Transformers needs a package that this environment, or this kernel, does not have.

    *What it means*
    Transformers imports without its optional packages and puts a placeholder in the place of what needs them; the
    placeholder fails when it is used: "X requires the PIL library but it was not found in your environment".

    *Why it happens*
    The package is not installed, is older than the required version, or was installed after this kernel had loaded
    transformers, which looks for its packages only once. bitsandbytes and flash-attn also count as missing without a
    usable GPU.

    *How tfdiag confirms it*
    It asks the installed metadata, and compares the version with the one that the message or the loaded transformers
    requires. Installed now, new enough, and reported missing means: the kernel is older than the installation.

    *Fixes and their safety*
    `install` (unsafe: it changes the environment; the command is shown first) installs the package, which must stand in
    tfdiag's own table, in a release that will do; `restart-kernel` (unsafe: variables are lost) where it is installed
    already. `install-by-hand` is shown for packages that are not in the table.

    *Example*
    `ViTImageProcessor()` without Pillow.

    *References*
    transformers: `utils/import_utils.py`, `requires_backends`, `BACKENDS_MAPPING`.
    """

    code = "IMP004"
    name = "missing-backend"
    raised = ("builtins.ImportError", "builtins.ValueError", "builtins.RuntimeError", "builtins.NameError")
    message = re.compile(
        r"(?<!\w)(?P<symbol>\w+) requires (?:the )?(?P<library>[\w. -]{1,60}?) library(?:\.| but| and)[^\n]{0,20}"
        r"[\w\s]{0,120}?not found in your env"
        r"|(?<!\w)(?P<symbol2>\w+) requires the (?P<library2>[\w. -]{1,60}?) library but it was not found"
        r"|\A\s*requires the (?P<library3>[\w. -]{1,60}?) library but it was not found"
        r"|Using [^\n]{3,80}? requires (?:the latest version of )?`?(?P<option>[A-Za-z]\w*)\b[^\n]{0,80}?pip install"
        r"|requires the following packages that were not found in your environment: (?P<listed>[\w-]+)"
        r"|make sure you have `(?P<asked>\w+)` installed"
        r"|You need to (?:have|install) (?P<needed>sentencepiece|tiktoken|protobuf)\b"
        r"|[Tt]he package (?P<flash>flash_attn) seems to be not installed"
        r"|(?P<peft>PEFT) is not installed|needs (?P<module>\w+) to be installed"
    )
    needs = (PackageVersionsProbe,)
    fixes = (
        Offer("install", Applicability.UNSAFE),
        Offer("restart-kernel", Applicability.UNSAFE),
        Offer("install-by-hand", Applicability.DISPLAY_ONLY),
    )
    CASES = (
        Match(
            text="ImportError:\nLlamaTokenizer requires the SentencePiece library but it was not found in your "
            "environment. Checkout the instructions on the\ninstallation page of its repo: "
            "https://github.com/google/sentencepiece#installation",
            certainty=Certainty.LIKELY,
            title="`LlamaTokenizer` needs the package sentencepiece",
            fixes=("install",),
        ),
        Match(
            text="ImportError: Using the `Trainer` with `PyTorch` requires `accelerate>=1.1.0`: Please run `pip "
            "install transformers[torch]` or `pip install 'accelerate>=1.1.0'`",
            evidence={
                "package-versions": {
                    "packages": {"accelerate": {"loaded": "", "installed": "1.15.0"}},
                    "stale": (),
                }
            },
            certainty=Certainty.CONFIRMED,
            title="accelerate 1.15.0 is installed.* restart the kernel",
            fixes=("restart-kernel",),
        ),
        Match(
            text="ImportError: Using the `Trainer` with `PyTorch` requires `accelerate>=0.26.0`: Please run `pip "
            "install transformers[torch]` or `pip install 'accelerate>=0.26.0'`",
            evidence={
                "package-versions": {
                    "packages": {"accelerate": {"loaded": "0.20.3", "installed": "0.20.3"}},
                    "stale": (),
                }
            },
            certainty=Certainty.CONFIRMED,
            title="accelerate is too old: here is 0.20.3, needed is accelerate>=0.26.0",
            fixes=("install",),
        ),
        Match(
            text="ImportError: FlashAttention2 has been toggled on, but it cannot be used due to the following error: "
            "the package flash_attn seems to be not installed.",
            title="the package flash-attn",
            fixes=("install-by-hand",),
        ),
        Match(
            text="ValueError: Couldn't instantiate the backend tokenizer from one of: \n(1) a `tokenizers` library "
            "serialization file, \n(3) an equivalent slow tokenizer class to instantiate and convert. \nYou need to "
            "have sentencepiece installed to convert a slow tokenizer to a fast one.",
            title="sentencepiece.*or.*tokenizer.json",
        ),
        NoMatch(text="ImportError: Missing optional dependency 'openpyxl'. Use pip or conda to install openpyxl."),
        NoMatch(text="ImportError: Plotly express requires pandas to be installed."),
        Reproduce(
            (
                INSTALL_LOCALLY.format(packages=[("pillow", "PIL"), ("torchvision", "torchvision")]),
                "from transformers import ViTImageProcessor\nViTImageProcessor()",
            ),
            title="`ViTImageProcessor` needs the packages? .*pillow",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("install", status=Status.PENDING),),
            isolated=True,
        ),
        Reproduce(
            (
                "import pathlib, sys, tempfile\n"
                "folder = pathlib.Path(tempfile.mkdtemp())\n"
                "for file, text in {\n"
                "    'accelerate/__init__.py': '__version__ = \"0.20.3\"',\n"
                "    'accelerate-0.20.3.dist-info/METADATA': 'Metadata-Version: 2.1\\nName: accelerate\\nVersion: "
                "0.20.3\\n',\n"
                "    'accelerate-0.20.3.dist-info/top_level.txt': 'accelerate\\n',\n"
                "}.items():\n"
                "    (folder / file).parent.mkdir(exist_ok=True)\n"
                "    (folder / file).write_text(text)\n"
                "sys.path.insert(0, str(folder))  # an old accelerate",
                INSTALL_LOCALLY.format(packages=[("accelerate", "accelerate")]),
                "from transformers import TrainingArguments\narguments = TrainingArguments('out', use_cpu=True)\n"
                "arguments.device",
            ),
            title=r"accelerate is too old: here is 0\.20\.3, needed is accelerate>=\d",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("install", status=Status.PENDING),),
            isolated=True,
        ),
        Reproduce(
            (
                "import sys\nsys.modules['accelerate'] = None  # as if it were not installed yet\nimport transformers\n"
                "from transformers.utils import is_accelerate_available\nis_accelerate_available()\ndel "
                "sys.modules['accelerate']",
                "from transformers import TrainingArguments\n"
                "arguments = TrainingArguments('out', use_cpu=True)\narguments.device",
            ),
            title="accelerate .* is installed, .* restart the kernel",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("restart-kernel", Status.PENDING),),
            needs=("torch", "transformers", "accelerate"),
            isolated=True,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        groups = {key.rstrip("23"): value for key, value in hit.groups.items() if value}
        spoken = next((groups[key] for key in groups if key not in ("symbol",)), "")
        package = package_of(spoken)
        if spoken == "protobuf" and any(not raised.is_a("ImportError") for raised in failure.chain[1:]):
            return None  # it was only asked for to tell what the error one level down was
        symbol = groups.get("symbol", "")
        if package is None and symbol and not symbol[0].isupper():
            return None  # prose, not the name of a class
        who = f"`{symbol}`" if symbol else "This call"
        if package is None and not symbol and "listed" not in groups and "flash" not in groups:
            return None
        distribution = REQUIREMENTS[package] if package else spoken.replace("_", "-").lower()
        seen = evidence[PackageVersionsProbe.name]
        state = seen["packages"].get(package) if seen and package else None
        slow = "backend tokenizer from one of" in hit.raised.message
        needed = _needed(hit.raised.message, distribution) or (seen.get("required", {}) if seen else {}).get(
            package, ""
        )
        if package and state and state["installed"] and not _will_do(state["installed"], needed):
            return self._too_old(package, state["installed"], needed, seen)
        if state and state["installed"]:
            return self._installed(who, distribution, state["installed"], seen, slow, bool(needed))
        others = _others(hit.raised.message, package, seen)
        names = " and ".join([distribution, *(REQUIREMENTS[other] for other in others)])
        are = "packages " + names + ", which are" if others else f"package {names}, which is"
        title = f"{who} needs the {are} not installed"
        if slow:
            title = (
                f"The tokenizer cannot be built: {distribution} is not installed, or the folder lacks `tokenizer.json`"
            )
        elif not state:
            title = f"{who} needs the package {distribution}, which was not found"
            title += " (or was installed after the kernel started)"
        note = f"{THEN_RESTART}: transformers looks for its packages only while it is loaded."
        if package:
            modules = " ".join([package, *others])
            first = f"'{distribution}{needed}'" if needed else distribution
            written = " ".join([first, *(REQUIREMENTS[other] for other in others)])
            note = f"`%pip install {written}`. {note}"
            fix = self.offer("install", f"Install {names}", note, modules=modules, needed=needed)
        else:
            fix = self.offer("install-by-hand", f"Install {distribution} by hand", note)
        return self.found(
            title,
            Certainty.CONFIRMED if state else Certainty.LIKELY,
            what=f"{symbol or 'The option'} is only a placeholder without {names}.",
            why="Transformers imports without its optional packages and fails when something that needs one is used.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def _too_old(self, package: str, version: str, needed: str, seen: Evidence) -> Diagnosis:
        distribution = REQUIREMENTS[package]
        kind = "too old" if older(version, needed.lstrip("=><~! ").split(",")[0]) else "of a release that will not do"
        return self.found(
            f"{distribution} is {kind}: here is {version}, needed is {distribution}{needed}",
            Certainty.CONFIRMED,
            what=f"Transformers treats {distribution} {version} as if it were not installed.",
            why="It looks for releases that it can work with only.",
            evidence=seen.seen,
            fixes=(
                self.offer(
                    "install",
                    f"Install {distribution}{needed}",
                    f"`%pip install '{distribution}{needed}'`. {THEN_RESTART}: the old one is loaded, and transformers looks only once.",
                    modules=package,
                    needed=needed,
                ),
            ),
        )

    def _installed(
        self, who: str, distribution: str, version: str, seen: Evidence, slow: bool, compared: bool
    ) -> Diagnosis:
        if slow:
            return self.found(
                f"The folder lacks `tokenizer.json` and a vocabulary to convert ({distribution} {version} is "
                "installed)",
                Certainty.LIKELY,
                what="Neither a fast tokenizer's file nor a slow one's vocabulary was found where the model was "
                "loaded from.",
                why="Often only the weights were copied: call `tokenizer.save_pretrained(folder)` too.",
                evidence=seen.seen,
            )
        gpu = distribution in ("bitsandbytes",)
        reason = (
            "it needs a usable GPU, or this kernel is older"
            if gpu
            else "but this kernel loaded transformers before"
            if compared
            else "but this kernel loaded transformers before, or needs a newer one"
        )
        return self.found(
            f"{distribution} {version} is installed, {reason}: restart the kernel",
            Certainty.CONFIRMED if compared and not gpu else Certainty.LIKELY,
            what=f"{who} was told that {distribution} is missing, yet its metadata says {version}.",
            why="Transformers looks for its packages only while it is loaded, and remembers the answer.",
            evidence=seen.seen,
            fixes=(self.offer("restart-kernel", RESTART, LOST),),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "restart-kernel":
            return restart(scene)
        modules, needed = str(fix.parameters["modules"]).split(), str(fix.parameters["needed"])
        return plan_install(scene, *modules, asked_by="transformers", releases={modules[0]: needed})


def _needed(message: str, distribution: str) -> str:
    """The least release of the package that the message asks for, as a version specifier; empty where it does not
    say.
    """
    found = re.search(rf"\b{re.escape(distribution)}\s*>=\s*(\d+(?:\.\d+)*)", message, re.IGNORECASE)
    return f">={found[1]}" if found else ""


def _will_do(version: str, needed: str) -> bool:
    """Whether the version satisfies the specifier; one that cannot be read is not held against it."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(needed).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def _others(message: str, package: str | None, seen: Evidence) -> tuple[str, ...]:
    """Further packages of tfdiag's table that the message lists as missing and that are not installed."""
    spoken = re.findall(r"requires the ([\w. -]{1,60}?) library", message)
    named = dict.fromkeys(other for name in spoken if (other := package_of(name)) and other != package)
    return tuple(name for name in named if seen and not seen["packages"].get(name, {}).get("installed"))
