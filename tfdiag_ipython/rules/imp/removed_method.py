from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import call_object
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

SUCCESSORS = {
    "encode_plus": "call the tokenizer itself",
    "batch_encode_plus": "call the tokenizer itself",
    "as_target_tokenizer": "give the labels as `text_target=`",
    "prepare_seq2seq_batch": "call the tokenizer with `text_target=`",
    "additional_special_tokens": "use `extra_special_tokens`",
    "additional_special_tokens_ids": "use `extra_special_tokens_ids`",
    "get_max_length": "use `get_max_cache_shape()`, or load the model without `trust_remote_code`",
    "get_usable_length": "use `get_seq_length()`, or load the model without `trust_remote_code`",
    "seen_tokens": "use `get_seq_length()`, or load the model without `trust_remote_code`",
    "to_legacy_cache": "keep the cache object",
    "from_legacy_cache": "keep the cache object",
    "prune_heads": "nothing replaces it in transformers 5",
    "rope_theta": "read `rope_parameters`",
}
"""Method or attribute removed by transformers 5 (the caches' earlier) → what to write now; tried on 4.57 and 5.23."""
CALLED = ("encode_plus", "batch_encode_plus")


class RemovedMethod(Rule):
    """A method that earlier releases of Transformers had.

    *What it means*
    The object is a tokenizer, cache, model or configuration of a release that no longer has this method.

    *Why it happens*
    transformers 5 dropped methods deprecated for years; model code downloaded with `trust_remote_code` still uses them.

    *How tfdiag confirms it*
    The method stands in a table checked by hand, the object is of that kind, and the loaded library is of a release without it.

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
        r"['\"]?(?P<kind>\w*(?:Tokenizer|TokenizersBackend|Cache|Config|Model|For[A-Z]\w+)\w*)['\"]?(?: object)? has no attribute "
        rf"['\"]?(?P<method>{'|'.join(sorted(SUCCESSORS, key=len, reverse=True))})\b"
    )
    needs = (PackageVersionsProbe,)
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
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        method, seen = hit["method"], evidence[PackageVersionsProbe.name]
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        if seen and not loaded:
            return None  # a class of that name that is not Transformers'
        version = f"transformers {loaded or failure.versions.get('transformers', '')}".strip()
        fixes: tuple[Fix, ...] = ()
        if method in CALLED:
            elsewhere = bool(failure.source) and method not in failure.source
            fixes = (
                self.offer(
                    "call-the-tokenizer", f"Write tokenizer(…) for .{method}(…)", display=elsewhere, method=method
                ),
            )
        return self.found(
            f"`{hit['kind']}.{method}` is gone from {version}: {SUCCESSORS[method]}",
            Certainty.CONFIRMED if loaded else Certainty.LIKELY,
            what=f"{hit['kind']} has no `{method}` in this release.",
            why="It was deprecated and then removed; the code is written for an older release.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        method = str(fix.parameters["method"])
        return edit_cells(scene, lambda source: call_object(source, method, bool))
