from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    "sure": False,
    "slips": 3,
    "variants": (),
    "file": "/env/transformers/modeling_utils.py",
    "backends": {},
}
TEXT = (
    "ImportError: cannot import name 'find_pruneable_heads_and_indices' from 'transformers.modeling_utils' "
    "(/env/transformers/modeling_utils.py)"
)


class NameInAnotherModule(Rule):
    """A name that the installed library has, in another module than the one that was asked.

    *What it means*
    The library was found, and so was the module; the name is right and stands elsewhere: `torch.Linear` is `torch.nn.Linear`.

    *Why it happens*
    The name was remembered without its module; or releases moved it (`find_pruneable_heads_and_indices` went from `modeling_utils` to
    `pytorch_utils`), or stopped handing on what a module only used itself.

    *How tfdiag confirms it*
    The library exports the name; or the file of a module that defines it in some release, by the history, defines it in the installed
    one; or a loaded public module of the library holds it, as the library's own.

    *Fixes and their safety*
    `import-from-there` (safe: only one module has it) takes the name from where it is, in the import or where it is used;
    `use-its-module` (unsafe) does so where several modules have the name, or another name may have been meant. Inside an installed
    package or a model's own code only another version helps.

    *Example*
    `from transformers.modeling_utils import Conv1D`, `torch.Linear(2, 2)`.

    *References*
    transformers: `pytorch_utils.py`. PyTorch: `torch.nn`, `torch.nn.functional`, `torch.utils.data`.
    """

    code = "IMP022"
    name = "name-in-another-module"
    raised = ("builtins.ImportError", "builtins.AttributeError")
    message = WANTED
    needs = (InstalledSymbolsProbe, PackageVersionsProbe)
    fixes = (Offer("import-from-there", Applicability.SAFE), Offer("use-its-module", Applicability.UNSAFE))
    CASES = (
        Match(
            text="AttributeError: module 'torch' has no attribute 'Linear'",
            evidence={
                "installed-symbols": SEEN
                | {
                    "symbol": "Linear",
                    "module": "torch",
                    "version": "2.13.0",
                    "elsewhere": ("torch.nn", "torch.ao.nn.qat"),
                }
            },
            certainty=Certainty.LIKELY,
            title="`Linear` is in `torch.nn` and `torch.ao.nn.qat`, not in `torch`",
            fixes=("use-its-module",),
        ),
        Match(
            text=TEXT,
            evidence={"installed-symbols": SEEN},
            certainty=Certainty.CONFIRMED,
            title="`find_pruneable_heads_and_indices` is in `transformers.pytorch_utils`, not in `transformers.modeling_utils`",
            fixes=("import-from-there",),
        ),
        NoMatch(text="AttributeError: module 'torch' has no attribute 'float8_e4m3fn'", code="IMP003"),
        NoMatch(text="AttributeError: module 'tensorflow' has no attribute 'placeholder'"),
        NoMatch(text="AttributeError: module 'torch' has no attribute 'F'", code="IMP003"),
        NoMatch(text="ImportError: cannot import name 'soft_unicode' from 'markupsafe'"),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'transformers.optimization' (x.py)", code="IMP002"),
        Reproduce(
            ("import torch", "layer = torch.Linear(2, 2)  # one"),
            title="`Linear` is in `torch.nn`.*, not in `torch`",
            certainty=Certainty.LIKELY,
            fixes=(Try("use-its-module"),),
        ),
        Reproduce(
            ("import transformers.models.bert.modeling_bert", "from transformers import BertConfig, BertSelfOutput"),
            title="`BertSelfOutput` is in `transformers.models.bert.modeling_bert`",
            fixes=(Try("import-from-there"),),
        ),
        Reproduce(  # several modules have it, and it is the same
            ("import torch.utils.data", "from torch.utils import DataLoader"),
            title="`DataLoader` is in `torch.utils.data`, not in `torch.utils`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("import-from-there"),),
        ),
        Reproduce(
            ("import torch", "activation = torch.nn.relu"),
            title=r"`relu` is in .*, not in `torch.nn`.*: or did you mean `ReLU`\?",
            certainty=Certainty.POSSIBLE,
            fixes=(Try("use-its-module"),),
        ),
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
        places, near = seen["elsewhere"], seen["nearest"]
        alone = len(places) == 1 and not near
        certainty = Certainty.POSSIBLE if near else Certainty.CONFIRMED if alone else Certainty.LIKELY
        version = f" ({name.library} {seen['version']})" if seen["version"] else ""
        meant = f": or did you mean {' or '.join(f'`{other}`' for other in near)}?" if near else ""
        where = culprit(failure)
        asker = f"`{where}` asks for it there. " if where else ""
        return self.found(
            f"`{name.symbol}` is in {' and '.join(f'`{place}`' for place in places)}, not in `{name.module}`{version}{meant}",
            certainty,
            what=f"The name is right, and {name.module} is not where this library has it.",
            why=f"{asker}It was remembered without its module, or another release had it there.",
            evidence=seen.seen,
            fixes=(self._taken(failure, name.symbol, name.module, places, alone),),
        )

    def _taken(self, failure: Failure, symbol: str, module: str, places: Sequence[str], alone: bool) -> Fix:
        note = "The same object." if alone else f"Also in {', '.join(places[1:])}." if places[1:] else ""
        return self.offer(
            "import-from-there" if alone else "use-its-module",
            f"Take {symbol} from {places[0]}",
            note,
            display=not in_cell(failure, symbol),
            symbol=symbol,
            module=module,
            place=places[0],
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        symbol, module, place = (str(fix.parameters[key]) for key in ("symbol", "module", "place"))
        return edit_cells(scene, lambda source: move_symbol(source, symbol, symbol, module=module, new_module=place))
