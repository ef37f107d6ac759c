from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data.changes import methods
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import call_object
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.attribute_owner import AttributeOwnerProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import older

REMOVED = {method.old: method for method in methods()}


class RemovedMethod(Rule):
    """A method that earlier releases of Transformers had.

    *What it means*
    The object is a tokenizer, cache, model or configuration of a release that no longer has this method.

    *Why it happens*
    transformers 5 dropped methods deprecated for years; model code downloaded with `trust_remote_code` still uses them.

    *How tfdiag confirms it*
    The method stands in a table, the object is of a class of Transformers, the loaded release is one without the
    method, and the object has what replaces it.

    *Fixes and their safety*
    `call-the-tokenizer` (safe: it is what these methods called) writes `tokenizer(…)` for `tokenizer.encode_plus(…)`.

    *Example*
    `tokenizer.batch_encode_plus(texts)` on transformers 5.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "IMP011"
    name = "removed-method"
    raised = ("builtins.AttributeError",)
    message = re.compile(
        r"['\"]?(?P<kind>\w*(?:Tokenizer|TokenizersBackend|Trainer|Cache|Config|Model|For[A-Z]\w+)\w*)['\"]?(?: object)?"
        rf" has no attribute ['\"]?(?P<method>{'|'.join(sorted(REMOVED, key=len, reverse=True))})\b"
    )
    needs = (PackageVersionsProbe, AttributeOwnerProbe)
    fixes = (Offer("call-the-tokenizer", Applicability.SAFE),)
    CASES = (
        Match(
            text="AttributeError: BertTokenizer has no attribute batch_encode_plus. Did you mean: '_encode_plus'?",
            certainty=Certainty.LIKELY,
            title="`BertTokenizer.batch_encode_plus` is gone from transformers.*: call the tokenizer itself",
            fixes=("call-the-tokenizer",),
        ),
        Match(
            text="AttributeError: 'DynamicCache' object has no attribute 'get_max_length'", title="get_max_cache_shape"
        ),
        Match(
            text="AttributeError: 'DynamicCache' object has no attribute 'get_max_cache_shape'",
            title=r"get_max_length\(\)",
        ),
        NoMatch(text="AttributeError: 'Doc' object has no attribute 'encode_plus'"),
        NoMatch(text="AttributeError: 'LRUCache' object has no attribute 'get_or_set'"),
        Reproduce(
            (
                "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
                "words = Tokenizer(models.WordLevel({'a': 0, 'b': 1}, unk_token='a'))\n"
                "tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)",
                "batch = tokenizer.batch_encode_plus(['a', 'b'])  # both",
            ),
            title="batch_encode_plus` is gone from transformers 5",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("call-the-tokenizer"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from transformers import DynamicCache", "DynamicCache().seen_tokens"),
            title=r"`DynamicCache.seen_tokens` is gone from transformers \d.*: use `get_seq_length\(\)`",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            ("from transformers import LlamaConfig", "LlamaConfig().rope_theta"),
            title="`LlamaConfig.rope_theta` is gone from transformers 5.*: read `rope_parameters`",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        method, seen, owner = hit["method"], evidence[PackageVersionsProbe.name], evidence[AttributeOwnerProbe.name]
        known = REMOVED[method]
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        told = loaded or failure.versions.get("transformers", "")
        if (seen and not loaded) or older(told, known.gone) or (owner and not _fits(owner, known.new)):
            return None  # of another library, or never there
        version = f"transformers {told}".strip()
        fixes: tuple[Fix, ...] = ()
        if known.edit == "call":
            elsewhere = bool(failure.source) and method not in failure.source
            fixes = (
                self.offer(
                    "call-the-tokenizer", f"Write tokenizer(…) for .{method}(…)", display=elsewhere, method=method
                ),
            )
        return self.found(
            f"`{hit['kind']}.{method}` is gone from {version}: {known.note}",
            Certainty.CONFIRMED if loaded and owner else Certainty.LIKELY,
            what=f"{hit['kind']} has no `{method}` from transformers {known.gone} on.",
            why="It was deprecated and then removed; the code is written for an older release.",
            evidence=(*seen.seen, *owner.seen),
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        method = str(fix.parameters["method"])
        return edit_cells(scene, lambda source: call_object(source, method, bool))


def _fits(owner: Evidence, new: str) -> bool:
    """Whether the object is of a class of Transformers that has what replaces the method."""
    roots = {name.partition(".")[0] for name in owner["classes"]}
    return "transformers" in roots and (not new or new in owner["has"])
