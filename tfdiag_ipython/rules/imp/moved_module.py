from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data import moved_to
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.imports import move_module, move_symbol
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.module_files import MISSING, ModuleFilesProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.cfg._model_types import first_release
from tfdiag_ipython.rules.imp._symbols import culprit, older, release_of

_GONE = {"torch": "2", "transformers": "5", "huggingface_hub": "1"}
_NAMED = (
    r"(?:cannot import name '(?P<name>\w+)' from '(?P<owner>transformers)'"
    r"|module '?(?P<package>transformers)'? has no attribute '?(?P<attribute>\w+))"
)


class MovedModule(Rule):
    """A module path of an older release: the module moved, or is gone.

    *What it means*
    The library is there, the module inside it is not: `No module named 'transformers.modeling_bert'`.

    *Why it happens*
    transformers 4 moved each model into a folder of its own (`transformers.models.bert.modeling_bert`); PyTorch 2
    dropped `torch._six`. Code and packages written before still import the old place.

    *How tfdiag confirms it*
    The old path is one of the table's, and the file of the new one is in the folder of the loaded library; where the
    file that imports it is not the person's cell, it is named.

    *Fixes and their safety*
    `use-new-path` (safe) writes the new path in the cell. Inside an installed package only another version of it helps.

    *Example*
    `from transformers.modeling_bert import BertModel`.

    *References*
    transformers 4.0.0 release notes.
    """

    code = "IMP006"
    name = "moved-module"
    raised = ("builtins.ImportError", "builtins.AttributeError")
    message = re.compile(f"{MISSING.pattern}|{_NAMED}")
    needs = (PackageVersionsProbe, ModuleFilesProbe)
    fixes = (Offer("use-new-path", Applicability.SAFE),)
    CASES = (
        Match(
            text="ModuleNotFoundError: No module named 'transformers.tokenization_bert'",
            certainty=Certainty.LIKELY,
            title="`transformers.tokenization_bert` is now `transformers.models.bert.tokenization_bert`",
            fixes=("use-new-path",),
        ),
        Match(text="ModuleNotFoundError: No module named 'torch._six'", title="`torch._six` is gone"),
        Match(
            text="ModuleNotFoundError: No module named 'huggingface_hub.repository'",
            title="`huggingface_hub.repository` is gone from huggingface_hub 1",
        ),
        NoMatch(text="ModuleNotFoundError: No module named 'sklearn.externals.six'"),
        NoMatch(text="ModuleNotFoundError: No module named 'torch'", code="IMP005"),
        Reproduce(
            ("from transformers.modeling_bert import BertModel  # as in 2020",),
            title="`transformers.modeling_bert` is now `transformers.models.bert.modeling_bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-path"),),
        ),
        Reproduce(
            ("import transformers", "from transformers.modeling_tf_bert import TFBertModel"),
            title="`transformers.modeling_tf_bert` is gone from transformers 5",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("import transformers", "from transformers.models.qwen3_5 import modeling_qwen3_5"),
            title=r"`transformers\.models\.qwen3_5` came with transformers 5\.\d+, here is 4",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5"),
        ),
        Reproduce(
            ("from transformers import modeling_bert, BertConfig\nkind = modeling_bert.BertModel",),
            title="`transformers.modeling_bert` is now `transformers.models.bert.modeling_bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-path"),),
        ),
        Reproduce(
            ("import transformers", "kind = transformers.modeling_bert.BertModel"),
            title="`transformers.modeling_bert` is now `transformers.models.bert.modeling_bert`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-path"),),
        ),
        Reproduce(
            ("import transformers", "from transformers.generation_utils import GenerationMixin, top_k_top_p_filtering"),
            title="`transformers.generation_utils` is now `transformers.generation` .*, which has no `top_k_top_p_filtering`",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            ("import transformers", "from transformers.image_processing_backends import TorchvisionBackend"),
            title=r"`transformers\.image_processing_backends` came with transformers 5\.\d+, here is 4",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5"),
        ),
        Reproduce(
            ("import transformers", "import transformers.zebra_stripes"),
            title=r"transformers \d.* has no module `transformers.zebra_stripes`: misspelt, or of another release",
            certainty=Certainty.POSSIBLE,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, files = evidence[PackageVersionsProbe.name], evidence[ModuleFilesProbe.name]
        named = bool(hit["name"] or hit["attribute"])
        old = f"transformers.{hit['name'] or hit['attribute']}" if named else hit["module"].rstrip(".")
        library, new = old.split(".")[0], moved_to(old)
        first, gone = _history(old)
        if named and new is None and not first and not gone:
            return None  # a module of no release: IMP001 to IMP003
        live = bool(seen and seen["packages"][library]["loaded"])
        version = seen["packages"][library]["loaded"] if live else failure.versions.get(library, "")
        if new and (not files["there"] if files else "modeling_tf_" in new and not older(version or "4", "5")):
            new = ""  # it was there for some releases, and is no more
        lacking = files.get("lacking", ())
        where = culprit(failure)
        asked = f"`{where}` imports it. " if where else ""
        certainty = Certainty.CONFIRMED if live and (files or not new) else Certainty.LIKELY
        if new is None and first and version and older(version, first):
            title = f"`{old}` came with transformers {first}, here is {version}: upgrade and restart the kernel"
        elif new is None and gone and version and not older(version, gone):
            title = f"`{old}` is gone from transformers {version}: release {gone} removed it"
        elif new is None:
            certainty = Certainty.POSSIBLE
            title = f"{library} {version} has no module `{old}`: misspelt, or of another release"
        elif lacking:
            title = f"`{old}` is now `{new}` ({library} {version}), which has no {' and no '.join(f'`{one}`' for one in lacking[:3])}"
        elif new:
            title = f"`{old}` is now `{new}` ({library} {version or '4 and later'})"
        else:
            title = f"`{old}` is gone from {library} {version or _GONE[library]}: what imports it is too old for it"
        fixes: tuple[Fix, ...] = ()
        if new:
            spelt = old.rpartition(".")[2] if named else old
            display = bool(lacking) or (bool(failure.source) and spelt not in failure.source)
            fixes = (self.offer("use-new-path", f"Import from {new}", display=display, old=old, new=new, named=named),)
        return self.found(
            title.replace("  ", " "),
            certainty,
            what=f"{library} is installed; it has no module `{old}`.",
            why=f"{asked}The code is written for another release of {library}.",
            evidence=(*seen.seen, *files.seen),
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
        package, _, name = old.rpartition(".")
        home, _, last = new.rpartition(".")

        def change(source: str) -> str:
            moved = move_module(source, old, new)
            return move_symbol(moved, name, last, module=package, new_module=home) if fix.parameters["named"] else moved

        return edit_cells(scene, change)


def _history(module: str) -> tuple[str, str]:
    """The release of transformers that brought a module, and the one that removed it; empty where the history does not know."""
    inner = module.removeprefix("transformers.")
    family = re.match(r"transformers\.models\.(\w+)", module)
    first = first_release(family[1]) if family else release_of("modules_first", inner)
    return first, release_of("modules_gone", inner)
