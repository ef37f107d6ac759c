from __future__ import annotations

from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.imports import move_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.installed_symbols import WANTED, InstalledSymbolsProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import in_cell, read, removal, stale


class NameInAnotherModule(Rule):
    """A name asked of one module of a library that another of its modules has.

    *What it means*
    The name is right and its place is not: `torch.Linear` is `torch.nn.Linear`.

    *Why it happens*
    The name was remembered without its module; or the library exports it only where it is defined (`BertSelfOutput`).

    *How tfdiag confirms it*
    It looks the very name up in the loaded public modules of the library, where it has to be the library's own.

    *Fixes and their safety*
    `use-its-module` (unsafe: several modules may have the name) takes it from there, in the import or where it is used.

    *Example*
    `torch.Linear(2, 2)`.

    *References*
    PyTorch: `torch.nn`, `torch.nn.functional`, `torch.utils.data`.
    """

    code = "IMP022"
    name = "name-in-another-module"
    raised = ("builtins.ImportError", "builtins.AttributeError")
    message = WANTED
    needs = (InstalledSymbolsProbe, PackageVersionsProbe)
    fixes = (Offer("use-its-module", Applicability.UNSAFE),)
    CASES = (
        Match(
            text="AttributeError: module 'torch' has no attribute 'Linear'",
            evidence={
                "installed-symbols": {
                    "symbol": "Linear",
                    "module": "torch",
                    "version": "2.13.0",
                    "exists": False,
                    "elsewhere": ("torch.nn",),
                    "nearest": (),
                    "sure": False,
                    "slips": 3,
                    "variants": (),
                    "backends": {},
                }
            },
            certainty=Certainty.LIKELY,
            title="torch has no `Linear`: torch.nn has",
            fixes=("use-its-module",),
        ),
        NoMatch(text="AttributeError: module 'torch' has no attribute 'float8_e4m3fn'", code="IMP003"),
        NoMatch(text="AttributeError: module 'tensorflow' has no attribute 'placeholder'"),
        Reproduce(
            ("import torch", "layer = torch.Linear(2, 2)  # one"),
            title="torch has no `Linear`: torch.nn has",
            certainty=Certainty.LIKELY,
            fixes=(Try("use-its-module"),),
        ),
        Reproduce(
            ("import transformers.models.bert.modeling_bert", "from transformers import BertConfig, BertSelfOutput"),
            title="transformers has no `BertSelfOutput`: transformers.models.bert.modeling_bert has",
            certainty=Certainty.LIKELY,
            fixes=(Try("use-its-module"),),
        ),
        Reproduce(
            ("import torch", "activation = torch.nn.relu"),
            title=r"torch.nn has no `relu`: torch has, or did you mean `ReLU`\?",
            certainty=Certainty.POSSIBLE,
            fixes=(Try("use-its-module"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or not seen or seen["exists"] or not seen["elsewhere"]:
            return None
        if stale(evidence, name.library) or removal(name) is not None:
            return None
        place, near = str(seen["elsewhere"][0]), seen["nearest"]
        title = f"{name.module} has no `{name.symbol}`: {place} has"
        if near:
            title += f", or did you mean {' or '.join(f'`{other}`' for other in near)}?"
        values = {"symbol": name.symbol, "module": name.module, "place": place}
        others = ", ".join(seen["elsewhere"][1:])
        note = f"Also in {others}." if others else ""
        elsewhere = not in_cell(failure, name.symbol)
        fix: Fix = self.offer("use-its-module", f"Use {place}.{name.symbol}", note, display=elsewhere, **values)
        return self.found(
            title,
            Certainty.POSSIBLE if near else Certainty.LIKELY,
            what=f"The name is right, and {name.module} is not where the library has it.",
            why=f"{place} is loaded and holds it.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        symbol, module, place = (str(fix.parameters[key]) for key in ("symbol", "module", "place"))
        return edit_cells(scene, lambda source: move_symbol(source, symbol, symbol, module=module, new_module=place))
