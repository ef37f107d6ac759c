from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import replace_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.installed_symbols import WANTED, InstalledSymbolsProbe
from tfdiag_ipython.probes.nearest import distance
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import Wanted, in_cell, later, meant, older, read, release_of, removal, stale

SEEN = {
    "symbol": "AutoModelForSequenceClasification",
    "module": "transformers",
    "version": "5.23.0",
    "exists": False,
    "elsewhere": (),
    "nearest": ("AutoModelForSequenceClassification",),
    "sure": True,
    "slips": 1,
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
    It looks the name up in the tables of the very module that is loaded: the name is not there, and one alone is one slip of the fingers
    away, two in long names. Where several are, it asks. Of pasted text the history of
    the released names is asked instead. Names known to have been removed, and a kernel that holds an older library than is installed,
    are other faults.

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
            title=r"`BertModl` is misspelt: transformers\.models\.bert \(transformers .*\) has `BertModel`",
            certainty=Certainty.CONFIRMED,
        ),
        Match(
            text="ImportError: cannot import name 'AutoModelForSequenceClasification' from 'transformers' (/x/__init__.py)",
            certainty=Certainty.LIKELY,
            title="is misspelt: transformers has `AutoModelForSequenceClassification`",
            fixes=("use-nearest-name",),
        ),
        Match(
            text="ImportError: cannot import name 'RobertModel' from 'transformers' (/x/__init__.py)",
            certainty=Certainty.POSSIBLE,
            title="did you mean `RobertaModel` or `RoCBertModel`",
        ),
        Reproduce(
            ("from transformers import RobertModel",),
            title="has no `RobertModel`: did you mean `RobertaModel` or `RoCBertModel`",
            certainty=Certainty.POSSIBLE,
        ),
        Reproduce(
            ("from transformers import BertTokenizerfast",),  # transformers 5 makes the name up when it is asked for
            title="has `BertTokenizerFast`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-name"),),
        ),
        Reproduce(
            ("import huggingface_hub", "load = huggingface_hub.hf_hub_dowload"),
            title="`hf_hub_dowload` is misspelt: huggingface_hub .* has `hf_hub_download`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-name"),),
        ),
        Reproduce(
            ("import torch", "x = torch.tensr([1.0])"),
            title="torch .* has `tensor`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-name"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or stale(evidence, name.library):
            return None
        if not seen:
            return self._by_history(name)
        if seen["exists"] or seen["elsewhere"] or not seen["nearest"]:
            return None  # the very name is in another module: IMP022
        if removal(name) is not None and seen["slips"]:
            return None
        best = str(seen["nearest"][0])
        newer = later(name.symbol, str(seen["version"])) if name.library == "transformers" else ""
        ahead = distance(name.symbol.lower(), newer.lower()) - seen["slips"] if newer else 1
        if ahead < 0:
            return None  # a name of a later release, or nearer to one
        told = f"{name.library} {seen['version']}".strip()
        if name.module != name.library:
            told = f"{name.module} ({told})"
        if not seen["sure"] or ahead == 0:
            near = (*seen["nearest"], newer) if ahead == 0 else seen["nearest"]
            return self._asked(name, near, told, seen)
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
        return self.found(
            f"`{name.symbol}` is misspelt: {told} has `{best}`",
            Certainty.CONFIRMED,
            what=f"{name.module} has no `{name.symbol}`.",
            why=f"The nearest name that it has is `{best}`.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def _asked(self, name: Wanted, near: tuple[str, ...], told: str, seen: Evidence) -> Diagnosis:
        """Several names may have been meant, or what was asked for is a word of its own."""
        names = " or ".join(f"`{other}`" for other in near)
        return self.found(
            f"{told} has no `{name.symbol}`: did you mean {names}?",
            Certainty.POSSIBLE,
            what=f"{name.module} has no `{name.symbol}`.",
            why="More than one name may have been meant: nothing is changed for you.",
            evidence=seen.seen,
        )

    def _by_history(self, name: Wanted) -> Diagnosis | None:
        """Pasted text: what the releases of transformers export, by the table read from their wheels."""
        near = meant(name.symbol, name.version) if name.library == "transformers" and removal(name) is None else None
        if not near:
            return None
        first = release_of("first", near.names[0])
        if near.sure and first and (not name.version or older(name.version, first)):
            return None  # misspelt, and of a later release besides: IMP003
        if not near.sure or name.module != "transformers":
            return self._asked(name, near.names, name.told, Evidence())
        fix = self.offer("use-nearest-name", f"Write {near.names[0]}", "The only change is the name.", display=True)
        return self.found(
            f"`{name.symbol}` is misspelt: {name.told} has `{near.names[0]}`",
            Certainty.LIKELY,
            what=f"No release of transformers exports `{name.symbol}`.",
            why=f"By the history of the names that its releases export, none is as near as `{near.names[0]}`.",
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new, module = (str(fix.parameters[key]) for key in ("old", "new", "module"))
        return edit_cells(scene, lambda source: replace_symbol(source, old, new, module=module))
