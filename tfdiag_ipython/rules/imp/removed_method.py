from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.data.changes import methods
from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import call_object, rename_attribute
from tfdiag_ipython.migrate.calls import kind_of_class
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.attribute_owner import AttributeOwnerProbe
from tfdiag_ipython.probes.package_versions import PackageVersionsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.imp._symbols import older

_NAMES = {name for method in methods() for name in (method.old, method.new if method.since else "")} - {""}


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
    `use-new-name` (safe: the same under its new name) where one was only renamed.

    *Example*
    `tokenizer.batch_encode_plus(texts)` on transformers 5.

    *References*
    transformers: `MIGRATION_GUIDE_V5.md`.
    """

    code = "IMP011"
    name = "removed-method"
    raised = ("builtins.AttributeError",)
    message = re.compile(
        r"(?<!\w)(?P<kind>\w{0,80}?(?:Tokenizer|Trainer|TrainingArguments|Cache|Config|Model|For[A-Z]\w)\w{0,80})['\"]?(?: object)?"
        rf" has no attribute ['\"]?(?P<method>{'|'.join(sorted(_NAMES, key=len, reverse=True))})\b"
        r"|\A\s*\Z"  # of a batch's `__getattr__`
    )
    needs = (PackageVersionsProbe, AttributeOwnerProbe)
    fixes = (Offer("call-the-tokenizer", Applicability.SAFE), Offer("use-new-name", Applicability.SAFE))
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
            (
                "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
                "words = Tokenizer(models.WordLevel({'a': 0, 'b': 1}, unk_token='a'))\n"
                "batch = PreTrainedTokenizerFast(tokenizer_object=words)('b')",
                "words = batch.words()  # which word",
            ),
            title=r"`BatchEncoding.words` is gone from transformers 5.*: use `word_ids\(\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-name"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            ("from transformers import DynamicCache", "DynamicCache().seen_tokens"),
            title=r"`DynamicCache.seen_tokens` is gone from transformers \d.*: use `get_seq_length\(\)`",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
                "words = Tokenizer(models.WordLevel({'a': 0, 'b': 1}, unk_token='a'))\n"
                "tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)",
                "ids = tokenizer.additional_special_tokens_ids",
            ),
            title="`TokenizersBackend.additional_special_tokens_ids` is gone from transformers 5.*: use `extra_special_tokens_ids`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-name"),),
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (
                "from tokenizers import Tokenizer, models\nfrom transformers import PreTrainedTokenizerFast\n"
                "words = Tokenizer(models.WordLevel({'a': 0, 'b': 1}, unk_token='a'))\n"
                "tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)",
                "tokenizer.build_inputs_with_special_tokens([0])",
            ),
            title="`TokenizersBackend.build_inputs_with_special_tokens` is gone from transformers 5.*: call the tokenizer with the text",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (
                "from transformers import GPT2Config, GPT2LMHeadModel\n"
                "model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8))",
                "model.parallelize()",
            ),
            title="`GPT2LMHeadModel.parallelize` is gone from transformers 5.*: load the model with `device_map=",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
        Reproduce(
            (
                "from transformers import TrainingArguments\narguments = TrainingArguments('out', use_cpu=True)",
                "steps = arguments.evaluation_strategy == 'steps'",
            ),
            title="`TrainingArguments.evaluation_strategy` is gone from transformers.*: use `eval_strategy`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-name"),),
            needs=("torch", "transformers>=4.51", "accelerate"),
        ),
        NoMatch(text="AttributeError: 'ToyModel' object has no attribute 'framework'"),
        NoMatch(text="AttributeError: 'GameTrainer' object has no attribute 'tokenizer'"),
        Reproduce(
            (
                "import tempfile\nfrom transformers import BertConfig, BertModel, Trainer, TrainingArguments\n"
                "sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=9)\n"
                "trainer = Trainer(BertModel(BertConfig(**sizes)), TrainingArguments(tempfile.mkdtemp(), use_cpu=True))",
                "trainer.tokenizer",
            ),
            title="`Trainer.tokenizer` is gone from transformers 5.*: use `processing_class`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-new-name"),),
            needs=("torch", "transformers>=5", "accelerate"),
        ),
        Reproduce(
            ("from transformers import LlamaConfig", "LlamaConfig().rope_parameters"),
            title="`LlamaConfig.rope_parameters` came with transformers 5.0, here is 4.*: use `rope_theta`",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers<5"),
        ),
        Reproduce(
            ("from transformers import LlamaConfig", "LlamaConfig().rope_theta"),
            title="`LlamaConfig.rope_theta` is gone from transformers 5.*: read `rope_parameters`",
            certainty=Certainty.CONFIRMED,
            needs=("torch", "transformers>=5"),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen, owner = evidence[PackageVersionsProbe.name], evidence[AttributeOwnerProbe.name]
        method = hit["method"] or str(owner.get("attribute", ""))
        kind = hit["kind"] or (owner["classes"][0].rpartition(".")[2] if owner else "")
        loaded = seen["packages"]["transformers"]["loaded"] if seen else ""
        told = loaded or failure.versions.get("transformers", "")
        if seen and not loaded:
            return None
        kinds = _kinds(kind, owner)
        known = next((one for one in methods() if one.old == method and one.of in kinds), None)
        if known is None or older(told, known.gone) or (owner and known.new not in ("", *owner["has"])):
            return self._newer(kind, method, kinds, told, evidence) if hit["method"] else None
        if known.common and not owner:
            return None
        version = f"transformers {told}".strip()
        fixes: tuple[Fix, ...] = ()
        if known.edit == "call":
            elsewhere = bool(failure.source) and method not in failure.source
            fixes = (
                self.offer(
                    "call-the-tokenizer", f"Write tokenizer(…) for .{method}(…)", display=elsewhere, method=method
                ),
            )
        if known.edit == "rename" and known.new in owner.get("has", ()):
            once = len(re.findall(rf"\.\s*{method}\b", failure.source)) == 1
            fixes = (self.offer("use-new-name", f"Write .{known.new}", display=not once, old=method, new=known.new),)
        return self.found(
            f"`{kind}.{method}` is gone from {version}: {known.note}",
            Certainty.CONFIRMED if loaded and owner else Certainty.LIKELY,
            what=f"{kind} has no `{method}` from transformers {known.gone} on.",
            why="It was deprecated and then removed; the code is written for an older release.",
            evidence=(*seen.seen, *owner.seen),
            fixes=fixes,
        )

    def _newer(
        self, kind: str, method: str, kinds: set[str], told: str, evidence: Mapping[str, Evidence]
    ) -> Diagnosis | None:
        """The other direction: the release is older than the attribute."""
        owner = evidence[AttributeOwnerProbe.name]
        known = next((one for one in methods() if one.new == method and one.since and one.of in kinds), None)
        if known is None or not older(told, known.since) or (owner and known.old not in owner["has"]):
            return None
        call = "()" if known.old.startswith("get_") else ""
        return self.found(
            f"`{kind}.{method}` came with transformers {known.since}, here is {told}: use `{known.old}{call}`",
            Certainty.CONFIRMED if owner else Certainty.LIKELY,
            what=f"{kind} has no `{method}` before transformers {known.since}.",
            why="The code is written for a later release.",
            evidence=(*evidence[PackageVersionsProbe.name].seen, *owner.seen),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        if fix.id == "use-new-name":
            old, new = str(fix.parameters["old"]), str(fix.parameters["new"])
            return edit_cells(scene, lambda source: rename_attribute(source, old, new))
        method = str(fix.parameters["method"])
        return edit_cells(scene, lambda source: call_object(source, method, bool))


def _kinds(name: str, owner: Evidence) -> set[str]:
    """The kinds of object that the class is: by its bases in Transformers where it was looked at, else by its name."""
    if not owner:
        return {kind_of_class(name)}
    bases = (base.rpartition(".") for base in owner["classes"] if base.startswith("transformers."))
    return {kind_of_class(last.rpartition(".")[2]) for _, _, last in bases}
