from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import set_arguments
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._examples import SETUP

LONG = "batch = tokenizer('a good film ' * 8, return_tensors='pt')"
GPT2 = "from transformers import GPT2Config, GPT2LMHeadModel\n"


class SequenceLongerThanPositions(Rule):
    """The text has more tokens than the model has positions.

    *What it means*
    The model learnt a fixed number of positions, and a row of `input_ids` is longer. Each architecture says it in another way: an index out of
    range, "the expanded size of the tensor", or a size that does not match.

    *Why it happens*
    The tokenizer was called without `truncation=True`, or its `model_max_length` is not set.

    *How tfdiag confirms it*
    It compares the row length of the `input_ids` in the failing call with `config.max_position_embeddings`; RoBERTa and its relatives use two
    of those for the padding, so their usable length is `max_position_embeddings - pad_token_id - 1`.

    *Fixes and their safety*
    `truncate` (unsafe: the end of long texts is not read) adds `truncation=True, max_length=N` to the tokenizer's call.

    *Example*
    `model(**tokenizer("word " * 600, return_tensors="pt"))` with BERT, which has 512 positions.

    *References*
    transformers: Padding and truncation; `RobertaEmbeddings` for the two extra positions.
    """

    code = "IDX002"
    name = "sequence-longer-than-positions"
    raised = ("builtins.IndexError", "builtins.RuntimeError")
    message = re.compile(
        r"index out of range in self|tfdiag\.guard stopped embedding(?!_)"
        r"|sequence length is longer than the specified maximum sequence length for this model \((?P<length>\d+) > (?P<most>\d+)\)"
        r"|The expanded size of the tensor \((?P<given>\d+)\) must match the existing size \((?P<has>\d+)\) at non-singleton dimension 1"
        r"|The size of tensor a \((?P<a>\d+)\) must match the size of tensor b \((?P<b>\d+)\) at non-singleton dimension [13]\b"
        r"|index (?P<index>\d+) is out of bounds for dimension [01] with size (?P<size>\d+)"
    )
    needs = (IndexTensorsProbe,)
    fixes = (Offer("truncate", Applicability.UNSAFE),)
    links = (Link("Padding and truncation", "https://huggingface.co/docs/transformers/pad_truncation"),)
    CASES = (
        Match(
            text="RuntimeError: The expanded size of the tensor (694) must match the existing size (512) at non-singleton dimension 1.  "
            "Target sizes: [1, 694].  Tensor sizes: [1, 512]",
            certainty=Certainty.LIKELY,
            title="694 tokens.*512 positions",
        ),
        Match(
            text="IndexError: index out of range in self",
            evidence={
                "index-tensors": {
                    "kind": "embedding",
                    "role": "positions",
                    "limit": 1024,
                    "length": 1300,
                    "module": "transformer.wpe",
                    "config": {"max_position_embeddings": 1024, "model_type": "gpt2"},
                    "values": {
                        "smallest": 0,
                        "largest": 1299,
                        "first": 1024,
                        "place": (0, 1024),
                        "count": 276,
                        "total": 1300,
                    },
                }
            },
            certainty=Certainty.CONFIRMED,
            title="1,300 tokens.*1,024",
            fixes=("truncate",),
        ),
        Match(
            text="Token indices sequence length is longer than the specified maximum sequence length for this model (700 > 512). Running "
            "this sequence through the model will result in indexing errors",
            certainty=Certainty.POSSIBLE,
            title="700 tokens.*512",
        ),
        Match(
            text="RuntimeError: The expanded size of the tensor (515) must match the existing size (514) at non-singleton dimension 1.  "
            "Target sizes: [4, 515].  Tensor sizes: [1, 514]",
            title="514 positions.*512 fit",
        ),
        Match(
            text="IndexError: index 512 is out of bounds for dimension 1 with size 512",
            title="513 tokens.*512 positions",
        ),
        NoMatch(text="IndexError: index 3 is out of bounds for dimension 0 with size 3"),
        NoMatch(
            text="RuntimeError: The expanded size of the tensor (3) must match the existing size (4) at non-singleton dimension 0."
        ),
        NoMatch(
            text="RuntimeError: The size of tensor a (10) must match the size of tensor b (20) at non-singleton dimension 1"
        ),
        Reproduce(
            (
                SETUP,
                "tokenizer = make_tokenizer()\nmodel = BertForSequenceClassification(BertConfig(**sizes))",
                f"{LONG}\nmodel(**batch)",
            ),
            title="24 tokens.*12 positions",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("truncate"),),
        ),
        Reproduce(
            (
                SETUP + GPT2,
                "tokenizer = make_tokenizer()\n"
                "model = GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=8, n_layer=1, n_head=1, n_positions=12))",
                f"{LONG}\nmodel(input_ids=batch['input_ids'])",
            ),
            title="24 tokens.*12 positions",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("truncate"),),
        ),
        Reproduce(
            (
                SETUP + "from transformers import RobertaConfig, RobertaModel\n",
                "tokenizer = make_tokenizer()\nmodel = RobertaModel(RobertaConfig(**sizes))",
                f"{LONG}\nmodel(**{{'input_ids': batch['input_ids']}})",
            ),
            title="24 tokens.*10 positions",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("truncate"),),
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[IndexTensorsProbe.name]
        if hit["most"]:
            return self.found(
                f"The text has {int(hit['length']):,} tokens, and the tokenizer's limit is {int(hit['most']):,}: it was not truncated",
                Certainty.POSSIBLE,
                what="This is a warning: a model with fixed positions fails on so long a text; it is harmless where it is cut later.",
                why="Pass `truncation=True` and `max_length`, or split the text.",
            )
        if not seen:
            return self._from_text(hit)
        usable, length = _usable(seen["config"]), seen["length"]
        if not usable or length <= usable or seen["role"] in {"tokens", "token types"}:
            return None
        fix: Fix = self.offer(
            "truncate",
            f"Truncate the text to {usable:,} tokens",
            "Adds `truncation=True` and `max_length` to the tokenizer's call: what is beyond is not read.",
            length=usable,
        )
        most = seen["config"].get("max_position_embeddings")
        less = f" (`max_position_embeddings` {most} less the padding's)" if most != usable else ""
        return self.found(
            f"The text has {length:,} tokens, and the model has {usable:,} positions",
            Certainty.CONFIRMED,
            what=f"The rows of `input_ids` have {length:,} tokens; the model's positions end at {usable:,}{less}.",
            why="The tokenizer was not asked to truncate.",
            evidence=seen.seen,
            fixes=(fix,),
        )

    def _from_text(self, hit: Hit) -> Diagnosis | None:
        """Only sizes that are a model's own number of positions say it without a look."""
        given, has = int(hit["given"] or hit["a"] or 0), int(hit["has"] or hit["b"] or 0)
        if hit["size"]:
            given, has = int(hit["index"]) + 1, int(hit["size"])
        if has not in {512, 514, 1024, 1026, 2048, 4096} or given <= has:
            return None
        padding = f", of which it uses two for the padding: {has - 2:,} fit" if has in {514, 1026} else ""
        return self.found(
            f"The text seems to have {given:,} tokens, and the model {has:,} positions{padding}",
            Certainty.LIKELY,
            what=f"The call asked for {given:,} positions or more, and there are {has:,}.",
            why="The tokenizer was not asked to truncate: pass `truncation=True` and `max_length`.",
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        arguments = {"truncation": "True", "max_length": str(fix.parameters["length"])}
        return edit_cells(scene, lambda source: set_arguments(source, _tokenizes, arguments))


def _usable(config: Mapping[str, object]) -> int:
    """Tokens that fit, from the model's own numbers; 0 when it does not say."""
    most, padding = config.get("max_position_embeddings"), config.get("pad_token_id")
    if not isinstance(most, int):
        return 0
    family = str(config.get("model_type", "")).replace("-", "_")
    counts_padding = "roberta" in family or family in {"camembert", "data2vec_text", "longformer", "mpnet", "xmod"}
    return most - padding - 1 if counts_padding and isinstance(padding, int) else most


def _tokenizes(call: object) -> bool:
    """A call that asks for tensors or padding, as only tokenizers are asked."""
    names = {arg.keyword.value for arg in getattr(call, "args", ()) if arg.keyword is not None}
    return bool(names & {"return_tensors", "padding", "truncation"})
