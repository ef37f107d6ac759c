from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data import table
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.imports import move_module
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import culprit


class MovedModule(Rule):
    """A module path of an older release: the module moved, or is gone.

    *What it means*
    The library is there, the module inside it is not: `No module named 'transformers.modeling_bert'`.

    *Why it happens*
    transformers 4 moved each model into a folder of its own (`transformers.models.bert.modeling_bert`); PyTorch 2
    dropped `torch._six`. Code and packages written before still import the old place.

    *How tfdiag confirms it*
    The old path is one of the table's, and the library itself is loaded; where the file that imports it is not the
    person's cell, it is named.

    *Fixes and their safety*
    `use-new-path` (safe) writes the new path in the cell. Inside an installed package only another version of it helps.

    *Example*
    `from transformers.modeling_bert import BertModel`.

    *References*
    transformers 4.0.0 release notes.
    """

    code = "IMP006"
    name = "moved-module"
    raised = ("builtins.ImportError",)
    message = re.compile(r"No module named ['\"‘`]?(?P<module>(?:transformers|torch)\.[\w.]+)")
    needs = (PackageVersionsProbe,)
    fixes = (Offer("use-new-path", Applicability.SAFE),)
    CASES = (
        Match(
            text="ModuleNotFoundError: No module named 'transformers.tokenization_bert'",
            certainty=Certainty.LIKELY,
            title="`transformers.tokenization_bert` is now `transformers.models.bert.tokenization_bert`",
            fixes=("use-new-path",),
        ),
        Match(text="ModuleNotFoundError: No module named 'torch._six'", title="`torch._six` is gone"),
        NoMatch(text="ModuleNotFoundError: No module named 'sklearn.externals.six'"),
        NoMatch(text="ModuleNotFoundError: No module named 'torch'", code="IMP005"),
        Reproduce(
            ("from transformers.modeling_bert import BertModel  # as in 2020",),
            title="`transformers.modeling_bert` is now `transformers.models.bert.modeling_bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-path"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        old, seen = hit["module"].rstrip("."), evidence[PackageVersionsProbe.name]
        library = old.split(".")[0]
        new = new_path(old)
        live = bool(seen and seen["packages"][library]["loaded"])
        version = seen["packages"][library]["loaded"] if live else failure.versions.get(library, "")
        where = culprit(failure)
        asked = f"`{where}` imports it. " if where else ""
        if new is None:
            title = (
                f"{library} {version} has no module `{old}`: the code that imports it is written for another release"
            )
        elif new:
            title = f"`{old}` is now `{new}` ({library} {version or '4 and later'})"
        else:
            title = f"`{old}` is gone from {library} {version or '2'}: the package that imports it is too old for it"
        fixes: tuple[Fix, ...] = ()
        if new:
            elsewhere = bool(failure.source) and old not in failure.source
            fixes = (self.offer("use-new-path", f"Import from {new}", display=elsewhere, old=old, new=new),)
        return self.found(
            title.replace("  ", " "),
            Certainty.CONFIRMED if live and new is not None else Certainty.LIKELY,
            what=f"{library} is installed; it has no module `{old}`.",
            why=f"{asked}The code is written for another release of {library}.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        return edit_cells(scene, lambda source: move_module(source, old, new))


def new_path(old: str) -> str | None:
    """Where the module is now; empty where it is gone, ``None`` where nothing is known of it."""
    for pattern, target in table("symbols")["modules"].items():
        found = re.fullmatch(pattern.replace(".", r"\.", 1), old)
        if found:
            return str(target).format(**found.groupdict())
    return None
