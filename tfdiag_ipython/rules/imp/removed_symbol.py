from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.data import table
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.imports import move_symbol
from tfdiag_ipython.fixes.source import replace_symbol
from tfdiag_ipython.fixes.successor import Successor, adapt_calls, not_kept
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.installed_symbols import WANTED, InstalledSymbolsProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules._places import passes
from tfdiag_ipython.rules.imp._adamw_examples import HIDDEN, KEPT, TRAIN
from tfdiag_ipython.rules.imp._symbols import (
    Removal,
    Wanted,
    culprit,
    in_cell,
    older,
    read,
    release_of,
    removal,
    stale,
    still_to_come,
)

TF_LOADER = re.compile(r"[/\\]modeling_tf_pytorch_utils\.py$")
"""The library looks for the TensorFlow twin of any model there; many models never had one."""


class RemovedSymbol(Rule):
    """A name that earlier releases had and the installed one has no more, or has elsewhere.

    *What it means*
    The code was written for an older release: `cannot import name 'AdamW' from 'transformers'`.

    *Why it happens*
    Each major release drops deprecated names: transformers 5 dropped all TensorFlow (`TF…`) and Flax classes,
    `…FeatureExtractor` of vision models, `AutoModelForVision2Seq`; others went earlier (`AdamW`, `shard_checkpoint`).
    Where transformers is old, a `TF…` class is missing because TensorFlow is.

    *How tfdiag confirms it*
    The name stands in a table read from the wheels of the releases (4.18 to 5.23), and the loaded module does not have
    it.

    *Fixes and their safety*
    `use-replacement` (safe) imports the successor instead; for AdamW it writes out the old defaults
    (`weight_decay=0.0`, `eps=1e-6`) in the calls of the cell. `use-nearest-replacement` (unsafe) is the same where this does not keep
    the meaning: a call says what the successor does not take (`correct_bias=False`, which is left out), hides its arguments behind `*` or `**`,
    or the class is used without a call or in other cells. `use-pytorch-class` (unsafe: another framework, other
    tensors) drops `TF` or `Flax`. `adapt-calls` is shown only: the successor takes other arguments.

    *Example*
    `from transformers import AutoModelForVision2Seq` on transformers 5.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "IMP002"
    name = "removed-symbol"
    raised = ("builtins.ImportError", "builtins.AttributeError")
    message = WANTED
    needs = (InstalledSymbolsProbe, PackageVersionsProbe)
    fixes = (
        Offer("use-replacement", Applicability.SAFE),
        Offer("use-nearest-replacement", Applicability.UNSAFE),
        Offer("use-pytorch-class", Applicability.UNSAFE),
        Offer("adapt-calls", Applicability.DISPLAY_ONLY),
    )
    CASES = (
        Match(
            text="ImportError: cannot import name 'AdamW' from 'transformers' (/usr/lib/transformers/__init__.py)",
            certainty=Certainty.LIKELY,
            title="`AdamW` is gone from transformers: use `torch.optim.AdamW`",
            fixes=("use-replacement",),
        ),
        Match(
            text='  File "x.py", line 3, in <module>\n    from transformers import TFBertForMaskedLM\n'
            "ImportError: cannot import name 'TFBertForMaskedLM' from 'transformers' "
            "(/usr/lib/python3.7/transformers/__init__.py)",
            certainty=Certainty.LIKELY,
            title="`TFBertForMaskedLM` needs TensorFlow, which transformers did not find",
        ),
        Match(
            text="ImportError: cannot import name 'AutoModelForVision2Seq'", title="use `AutoModelForImageTextToText`"
        ),
        Match(
            text="ImportError: cannot import name 'cached_download' from 'huggingface_hub' "
            "(/x/huggingface_hub/__init__.py). Did you mean: 'hf_hub_download'?",
            title="`cached_download` is gone from huggingface_hub",
            fixes=("adapt-calls",),
        ),
        Match(
            text="ImportError: cannot import name 'Repository' from 'huggingface_hub' (/x/huggingface_hub/__init__.py)",
            certainty=Certainty.LIKELY,
            title=r"`Repository` is gone from huggingface_hub: huggingface_hub.upload_folder\(\)",
        ),
        Match(
            failure=Failure.from_text(
                "ImportError: cannot import name 'is_torch_fx_available' from 'transformers.utils' (/x/utils/__init__.py)",
                versions={"transformers": "5.23.0"},
            ),
            title="`is_torch_fx_available` is gone from transformers 5.23.0: release 5.0 removed it",
        ),
        Match(
            text="ImportError: cannot import name 'BERT_PRETRAINED_MODEL_ARCHIVE_LIST' from 'transformers' "
            "(/x/__init__.py)",
            title="is gone from transformers: release 4.41 removed it",
        ),
        NoMatch(text="ImportError: cannot import name 'AdamW' from 'torchopt' (x.py)"),
        NoMatch(
            failure=Failure.from_text(
                "ImportError: cannot import name 'HybridCache' from 'transformers' (/x/__init__.py)",
                versions={"transformers": "4.40.0"},
            ),
            code="IMP003",
        ),
        NoMatch(text="ImportError: cannot import name frombuffer_empty"),
        Reproduce(
            (TRAIN,),
            title=r"`AdamW` is gone from transformers \d.*: use `torch.optim.AdamW`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-nearest-replacement"),),
        ),
        Reproduce((KEPT,), title="use `torch.optim.AdamW`", fixes=(Try("use-replacement"),)),
        Reproduce((HIDDEN,), title="use `torch.optim.AdamW`", fixes=(Try("use-nearest-replacement"),)),
        Reproduce(
            ("from transformers import AdamW",),
            title="use `torch.optim.AdamW`",
            fixes=(Try("use-nearest-replacement"),),
        ),
        Reproduce(
            ("import transformers", "kind = transformers.AutoModelForVision2Seq"),
            title="AutoModelForImageTextToText",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-replacement"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from transformers import ViTFeatureExtractor",),
            title="`ViTFeatureExtractor` is gone .*: use `ViTImageProcessor`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-replacement"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from transformers import BertConfig, TFBertModel\nmodel = TFBertModel(BertConfig(num_hidden_layers=1))",),
            title="TFBertModel.* is a TensorFlow class, which transformers 5.* no longer has: use `BertModel`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-pytorch-class"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from transformers.utils import is_torch_fx_available",),
            title="`is_torch_fx_available` is gone from transformers 5.*: release 5.0 removed it",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from huggingface_hub import Repository",),
            title="`Repository` is gone from huggingface_hub",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "huggingface_hub>=1"),
        ),
        Reproduce(
            ("from transformers.modeling_utils import shard_checkpoint",),
            title="`shard_checkpoint` is gone",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        name, seen = read(failure, hit), evidence[InstalledSymbolsProbe.name]
        if name is None or stale(evidence, name.library) or passes(failure, TF_LOADER):
            return None
        known = removal(name)
        version = str(seen["version"]) if seen else name.version
        if known is None or (seen and (seen["exists"] or _wrong(known, seen))):
            return None
        if still_to_come(name, known, version):
            return None  # this release has it still, or not yet: something else is wrong
        if seen and seen["elsewhere"] and not (known.new or known.note):
            return None  # it lives on inside the library
        first = release_of("first", name.symbol) if name.library == "transformers" and not version else ""
        certainty = Certainty.POSSIBLE if first else Certainty.LIKELY  # without a version, it may be too old as well
        return self.found(
            _title(name, known, hit.raised.message, bool(seen), first),
            Certainty.CONFIRMED if seen else certainty,
            what=f"{name.module} has no `{name.symbol}`{f' since {known.gone}' if known.gone else ''}.",
            why=_why(failure, known),
            evidence=seen.seen,
            fixes=self._fixes(failure, name, known),
        )

    def _fixes(self, failure: Failure, name: Wanted, known: Removal) -> tuple[Fix, ...]:
        if not known.new:
            return ()
        values: dict[str, Any] = {
            "old": name.symbol,
            "new": known.new,
            "module": name.library,
            "new_module": known.module,
        }
        elsewhere = not in_cell(failure, name.symbol)
        if known.calls_differ:
            return (self.offer("adapt-calls", f"Use {known.target} and adapt the calls", known.note, **values),)
        if known.other_framework:
            label = f"Write {known.new}, the PyTorch class"
            note = f"The code after it must speak PyTorch: other tensors, no {known.other_framework} training loop."
            return (self.offer("use-pytorch-class", label, note, display=elsewhere, **values),)
        successor = Successor.of(table("symbols")["removed"].get(name.symbol, {}))
        lost = not_kept(failure.source, name.symbol, name.library, successor) if successor and failure.source else ()
        if lost:
            told = f"{known.note} The calls in the cell keep the old values, but: {'; '.join(lost)}."
            return (self.offer("use-nearest-replacement", f"Use {known.target}", told, display=elsewhere, **values),)
        told = f"{known.note} The calls in the cell keep the old values." if successor else known.note
        return (self.offer("use-replacement", f"Use {known.target}", told, display=elsewhere, **values),)

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        old, new, module, new_module = (str(fix.parameters[key]) for key in ("old", "new", "module", "new_module"))
        successor = Successor.of(table("symbols")["removed"].get(old, {}))

        def change(source: str) -> str:
            if new_module == module:
                return replace_symbol(source, old, new, module=module)
            kept = adapt_calls(source, old, module, successor) if successor else source
            return move_symbol(kept, old, new, module=module, new_module=new_module)

        return edit_cells(scene, change, note=fix.explanation if successor else "")


def _wrong(known: Removal, seen: Evidence) -> bool:
    """Whether a derived successor is none in this library (a misspelt name, an extractor for sound)."""
    return known.pattern and known.new not in seen["variants"]


def _title(name: Wanted, known: Removal, message: str, live: bool, first: str) -> str:
    if known.other_framework:
        old_python = "python3.6" in message or "python3.7" in message or "unknown location" in message
        if older(name.version, "5") or (not live and old_python):
            where = name.told if name.version else "transformers"
            return (
                f"`{name.symbol}` needs {known.other_framework}, which {where} did not find (or it is older than the "
                "class); "
                f"the PyTorch class is `{known.new}`"
            )
        return (
            f"`{name.symbol}` is a {known.other_framework} class, which "
            f"{name.told if name.version else 'transformers 5'} "
            f"no longer has: use `{known.new}`"
        )
    place = name.told
    if name.symbol == "TRANSFORMERS_CACHE":
        return f"`{name.symbol}` is gone from {place}: use `huggingface_hub.constants.HF_HUB_CACHE`"
    told = f"use `{known.target}`" if known.new else _first(known.note) or f"release {known.gone} removed it"
    if first:
        return f"`{name.symbol}` came with {place} {first} and is gone since {known.gone}: {told}"
    return f"`{name.symbol}` is gone from {place}: {told}"


def _first(note: str) -> str:
    return (note if note[1:2].isupper() else note[:1].lower() + note[1:]).rstrip(".")


def _why(failure: Failure, known: Removal) -> str:
    where = culprit(failure)
    asked = (
        f"`{where}` asks for it: it is written for an older release. "
        if where
        else "The code is written for an older release. "
    )
    return f"{asked}{known.note}".strip()
