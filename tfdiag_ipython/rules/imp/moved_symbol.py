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
from tfdiag_ipython.rules.imp._symbols import culprit, in_cell, read, removal, stale, still_to_come

SEEN = {
    "symbol": "find_pruneable_heads_and_indices",
    "module": "transformers.modeling_utils",
    "version": "4.57.6",
    "exists": False,
    "elsewhere": ("transformers.pytorch_utils",),
    "nearest": (),
    "variants": (),
    "file": "/env/transformers/modeling_utils.py",
    "backends": {},
}
TEXT = (
    "ImportError: cannot import name 'find_pruneable_heads_and_indices' from 'transformers.modeling_utils' "
    "(/env/transformers/modeling_utils.py)"
)


class MovedSymbol(Rule):
    """A name that the installed library has, in another module than the one that was asked.

    *What it means*
    The library was found, and so was the module; the name stands elsewhere in this release.

    *Why it happens*
    Releases move functions between modules (`find_pruneable_heads_and_indices` went from `modeling_utils` to `pytorch_utils`), and stop
    handing on what a module only used itself.

    *How tfdiag confirms it*
    The library exports the name, or the file of a module that defines it in some release, by the history, defines it in the installed one.

    *Fixes and their safety*
    `import-from-there` (safe: the same object) takes the name from where it is. Inside an installed package or a model's own code only
    another version helps.

    *Example*
    `from transformers.modeling_utils import Conv1D`.

    *References*
    transformers: `pytorch_utils.py`.
    """

    code = "IMP019"
    name = "moved-symbol"
    raised = ("builtins.ImportError", "builtins.AttributeError")
    message = WANTED
    needs = (InstalledSymbolsProbe, PackageVersionsProbe)
    fixes = (Offer("import-from-there", Applicability.SAFE),)
    CASES = (
        Match(
            text=TEXT,
            evidence={"installed-symbols": SEEN},
            certainty=Certainty.CONFIRMED,
            title="`find_pruneable_heads_and_indices` is in `transformers.pytorch_utils`, not in `transformers.modeling_utils`",
            fixes=("import-from-there",),
        ),
        Match(
            text=TEXT,
            evidence={"installed-symbols": SEEN | {"elsewhere": ("transformers.a", "transformers.b")}},
            certainty=Certainty.LIKELY,
            title="is in `transformers.a` and `transformers.b`",
        ),
        NoMatch(text="ImportError: cannot import name 'soft_unicode' from 'markupsafe'"),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'transformers.optimization' (x.py)", code="IMP002"),
        Reproduce(
            ("from transformers.modeling_utils import PreTrainedModel, Conv1D  # as in 2021",),
            title="`Conv1D` is in `transformers`, not in `transformers.modeling_utils`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("import-from-there"),),
        ),
        Reproduce(
            ("from transformers import create_causal_mask",),
            title="`create_causal_mask` is in `transformers.masking_utils`, not in `transformers`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("import-from-there"),),
        ),
        Reproduce(
            ("from transformers.tokenization_utils import BatchEncoding",),
            title="`BatchEncoding` is in `transformers`, not in `transformers.tokenization_utils`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("import-from-there"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from transformers.modeling_utils import find_pruneable_heads_and_indices",),
            title="is in `transformers.pytorch_utils`, not in",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("import-from-there"),),
            needs=("torch", "transformers<5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or not seen or seen["exists"] or not seen["elsewhere"] or stale(evidence, name.library):
            return None
        known = removal(name)
        if known is not None and (known.new or known.note) and not still_to_come(name, known, str(seen["version"])):
            return None  # what stands elsewhere is not what was removed
        places = seen["elsewhere"]
        told = " and ".join(f"`{place}`" for place in places)
        where = culprit(failure)
        fixes: tuple[Fix, ...] = ()
        if len(places) == 1:
            elsewhere = not in_cell(failure, name.symbol)
            values = {"name": name.symbol, "module": name.module, "place": places[0]}
            label = f"Import {name.symbol} from {places[0]}"
            fixes = (self.offer("import-from-there", label, "The same object.", display=elsewhere, **values),)
        version = f" ({name.library} {seen['version']})" if seen["version"] else ""
        return self.found(
            f"`{name.symbol}` is in {told}, not in `{name.module}`{version}",
            Certainty.CONFIRMED if len(places) == 1 else Certainty.LIKELY,
            what=f"{name.module} has no `{name.symbol}`.",
            why=f"{f'`{where}` asks for it there. ' if where else ''}The code is written for another release, which had it there.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        name, module, place = (str(fix.parameters[key]) for key in ("name", "module", "place"))
        return edit_cells(scene, lambda source: move_symbol(source, name, name, module=module, new_module=place))
