from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import replace_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.installed_symbols import WANTED, InstalledSymbolsProbe, likeness
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import in_cell, later, read, removal, stale

SEEN = {
    "symbol": "AutoModelForSequenceClasification",
    "module": "transformers",
    "version": "5.23.0",
    "exists": False,
    "elsewhere": (),
    "nearest": ("AutoModelForSequenceClassification",),
    "variants": (),
    "file": "/env/transformers/__init__.py",
    "backends": {},
}


class MisspeltSymbol(Rule):
    """A name that the library does not have, one or two letters away from one that it has.

    *What it means*
    Python found the library, but no such name in it: `cannot import name … from 'transformers'`, or, as an attribute,
    `module transformers has no attribute …`.

    *Why it happens*
    A letter is missing, doubled or in the wrong case (`AutoModelForSequenceClasification`, `LLaMATokenizer`).

    *How tfdiag confirms it*
    It looks the name up in the tables of the very module that is loaded: the name is not there, and one is that differs
    in few letters. Names known to have been removed, and a kernel that holds an older library than is installed, are
    other faults.

    *Fixes and their safety*
    `use-nearest-name` (safe: the cell could not run before) writes the library's spelling in the cell, imports and uses
    alike.

    *Example*
    `from transformers import AutoModelForSequenceClasification`.

    *References*
    transformers: `utils/import_utils.py`, `_LazyModule`.
    """

    code = "IMP001"
    name = "misspelt-symbol"
    raised = ("builtins.ImportError", "builtins.AttributeError", "builtins.ValueError")
    message = WANTED
    needs = (InstalledSymbolsProbe, PackageVersionsProbe)
    fixes = (Offer("use-nearest-name", Applicability.SAFE),)
    CASES = (
        Match(
            text="ImportError: cannot import name 'AutoModelForSequenceClasification' from 'transformers' "
            "(/env/transformers/__init__.py)",
            evidence={"installed-symbols": SEEN},
            certainty=Certainty.CONFIRMED,
            title="`AutoModelForSequenceClasification` is misspelt: .*5.23.* has `AutoModelForSequenceClassification`",
            fixes=("use-nearest-name",),
        ),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'transformers' (x/__init__.py)", code="IMP002"),
        NoMatch(text="ImportError: cannot import name 'soft_unicode' from 'markupsafe'"),
        NoMatch(text="AttributeError: module 'tensorflow' has no attribute 'placeholder'"),
        Reproduce(
            ("from transformers import (\n    AutoConfig,\n    AutoModelForSequenceClasification,  # the head\n)",),
            title="is misspelt: transformers .* has `AutoModelForSequenceClassification`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-name"),),
        ),
        Reproduce(
            ("import transformers", "config = transformers.BertConfg(num_labels=3)"),
            title="`BertConfg` is misspelt: transformers .* has `BertConfig`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-name"),),
        ),
        Match(
            text="ImportError: cannot import name 'ZeebraModel' from 'transformers' (/env/transformers/__init__.py)",
            evidence={"installed-symbols": SEEN | {"symbol": "ZeebraModel", "nearest": ("ZebraModel",)}},
            title="is misspelt",
        ),
        NoMatch(
            failure=Failure.from_text(
                "ImportError: cannot import name 'Qwen3NextForCausalLM' from 'transformers' (/env/transformers/__init__.py)",
                versions={"transformers": "4.51.3"},
            ),
            code="IMP003",
        ),
        Reproduce(  # of the person's own file, which only has a library's name
            (
                "import os, pathlib, sys, tempfile\nfolder = tempfile.mkdtemp()\nos.chdir(folder)\nsys.path.insert(0, folder)\n"
                "pathlib.Path('evaluate.py').write_text('def measure(): pass')",
                "from evaluate import measur",
            ),
            title="`measur` is misspelt: evaluate has `measure`",
            certainty=Certainty.CONFIRMED,
            isolated=True,
        ),
        Reproduce(
            ("from transformers.models.bert import BertModl",),
            title="`BertModl` is misspelt: transformers .* has `BertModel`",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or not seen or seen["exists"] or seen["elsewhere"] or not seen["nearest"]:
            return None
        if stale(evidence, name.library) or (
            removal(name) is not None and not _only_case(name.symbol, seen["nearest"][0])
        ):
            return None
        best = str(seen["nearest"][0])
        newer = later(name.symbol, str(seen["version"])) if name.library == "transformers" else ""
        if newer and likeness(name.symbol, newer) > likeness(name.symbol, best):
            return None  # a name of a later release, or nearer to one
        others = ", ".join(f"`{other}`" for other in seen["nearest"][1:])
        lacking = ", ".join(seen["backends"].get(best, ()))
        fix = self.offer(
            "use-nearest-name",
            f"Write {best}",
            f"The only change is the name.{f' It needs {lacking}, which is not installed.' if lacking else ''}",
            display=not in_cell(failure, name.symbol),
            old=name.symbol,
            new=best,
            module=name.library,
        )
        version = f"{name.library} {seen['version']}".strip()
        return self.found(
            f"`{name.symbol}` is misspelt: {version} has `{best}`",
            Certainty.CONFIRMED,
            what=f"{name.module} has no `{name.symbol}`.",
            why=f"The nearest name that it has is `{best}`{f'; also near: {others}' if others else ''}.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new, module = (str(fix.parameters[key]) for key in ("old", "new", "module"))
        return edit_cells(scene, lambda source: replace_symbol(source, old, new, module=module))


def _only_case(symbol: str, other: str) -> bool:
    return symbol.lower() == other.lower()
