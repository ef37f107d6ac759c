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
from tfdiag_ipython.probes.tokenizers import TokenizersProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._examples import SETUP
from tfdiag_ipython.rules.idx._words import too_long

LONG = "batch = tokenizer('a good film ' * 8, return_tensors='pt')"
GPT2 = "from transformers import GPT2Config, GPT2LMHeadModel\n"
GIVEN = {
    "input_ids": ("The text has", "model"),
    "inputs_embeds": ("The inputs have", "model"),
    "labels": ("The labels have", "decoder"),
    "decoder_input_ids": ("The decoder's input has", "decoder"),
}
"""Who has too many tokens, and of which part they are too many, by the argument that holds them."""
BART = """from transformers import BartConfig, BartForConditionalGeneration
layers = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1)
wide = dict(d_model=8, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=12)
special = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2)
model = BartForConditionalGeneration(BartConfig(vocab_size=7, **layers, **wide, **special)).eval()
"""


class SequenceLongerThanPositions(Rule):
    """The text has more tokens than the model has positions.

    *What it means*
    The model learnt a fixed number of positions, and a row of `input_ids` is longer. Each architecture says it in another way: an index out of
    range, "the expanded size of the tensor", or a size that does not match.

    *Why it happens*
    The tokenizer was called without `truncation=True`, or its `model_max_length` is not set. The labels that a
    decoder reads need positions of it, too.

    *How tfdiag confirms it*
    It compares the tokens that the failing part of the model was given with the rows of its learned positions, less those that it keeps back:
    RoBERTa and its relatives use the first ones for the padding, so their usable length is `max_position_embeddings - pad_token_id - 1`.
    Where positions are computed, the message must speak of the number in the configuration.

    *Fixes and their safety*
    `truncate` (unsafe: the end of long texts is not read) adds `truncation=True, max_length=N` to the tokenizer's call; for labels it is
    only said.

    *Example*
    `model(**tokenizer("word " * 600, return_tensors="pt"))` with BERT, which has 512 positions.

    *References*
    transformers: Padding and truncation; `RobertaEmbeddings` for the two extra positions.
    """

    code = "IDX002"
    name = "sequence-longer-than-positions"
    raised = ("builtins.IndexError", "builtins.RuntimeError", "builtins.ValueError")
    message = re.compile(
        r"index out of range in self|tfdiag\.guard stopped embedding(?!_)"
        r"|sequence length is longer than the specified maximum sequence length for this model \((?P<length>\d+) > (?P<most>\d+)\)"
        r"|The expanded size of the tensor \((?P<given>\d+)\) must match the existing size \((?P<has>\d+)\)(?: at non-singleton dimension 1|(?! at))"
        r"|The size of tensor a \((?P<a>\d+)\) must match the size of tensor b \((?P<b>\d+)\) at non-singleton dimension [13]\b"
        r"|index (?P<index>\d+) is out of bounds for dimension [01] with size (?P<size>\d+)"
        r"|less than max_position_embeddings \(got `sequence length`: (?P<tokens>\d+) and max_position_embeddings: (?P<places>\d+)"
        r"|Sequence Length: (?P<chunks>\d+) has to be less or equal than config\.max_position_embeddings (?P<axial>\d+)"
        r"|Labels' sequence length (?P<labels>\d+) cannot exceed the maximum allowed length of (?P<allowed>\d+) tokens"
    )
    needs = (IndexTensorsProbe, TokenizersProbe)
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
            text="The expanded size of the tensor (514) must match the existing size (512)",
            certainty=Certainty.LIKELY,
            title="514 tokens.*512 positions",
        ),
        NoMatch(text="The expanded size of the tensor (7) must match the existing size (5)"),
        Match(
            text="IndexError: index out of range in self",
            evidence={
                "index-tensors": {
                    "kind": "embedding",
                    "role": "positions",
                    "limit": 1024,
                    "length": 1300,
                    "positions": {"most": 1024, "length": 1300, "learned": True, "argument": "input_ids"},
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
        Match(
            text="ValueError: Sequence length must be less than max_position_embeddings (got `sequence length`: 99 and max_position_embeddings: 77",
            certainty=Certainty.LIKELY,
            title="99 tokens.*77 positions",
        ),
        Match(
            text="ValueError: Labels' sequence length 500 cannot exceed the maximum allowed length of 448 tokens.",
            title="labels seem to have 500 tokens.*448 positions",
        ),
        Match(
            text="ValueError: Sequence Length: 20 has to be less or equal than config.max_position_embeddings 16.",
            title="20 tokens.*16 positions",
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
        Reproduce(
            (
                SETUP + "from transformers import CLIPTextConfig, CLIPTextModel\n",
                "tokenizer = make_tokenizer()\nmodel = CLIPTextModel(CLIPTextConfig(**sizes, eos_token_id=6))",
                f"{LONG}\nmodel(input_ids=batch['input_ids'])",
            ),
            title="24 tokens.*12 positions",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("truncate"),),
        ),
        Reproduce(  # no tokenizer is there: the ids were made by hand
            (
                "import torch\n" + GPT2 + "sizes = dict(n_layer=1, n_head=1, n_embd=4, vocab_size=8, n_positions=12)\n"
                "model = GPT2LMHeadModel(GPT2Config(**sizes))",
                "out = model(torch.full((1, 20), 3))",
            ),
            title="20 tokens.*12 positions",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (
                SETUP + BART,
                "labels = torch.randint(3, 7, (2, 14))",
                "loss = model(torch.tensor([[3, 4], [5, 6]]), labels=labels).loss",
            ),
            title="labels have 14 tokens.*decoder has 12 positions",
            certainty=Certainty.CONFIRMED,
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
        places = seen.get("positions") or {}
        if not places and not hit["labels"]:
            return self._explicit(hit)
        if hit["labels"]:  # the loss is refused before the decoder is called
            places = {"most": int(hit["allowed"]), "length": int(hit["labels"]), "argument": "labels"}
        elif not too_long(seen, hit.raised.message) or places["argument"] == "generate":
            return None
        most, length = places["most"], places["length"]
        tokenizers = evidence[TokenizersProbe.name]
        by_hand = bool(tokenizers) and not tokenizers["any"]
        given, part = GIVEN[places["argument"]]
        said = seen["config"].get("max_position_embeddings")
        less = (
            f" (`max_position_embeddings` {said} less the padding's)"
            if said and said != most and part == "model"
            else ""
        )
        return self.found(
            f"{given} {length:,} tokens, and the {part} has {most:,} positions",
            Certainty.CONFIRMED,
            what=f"The rows of `{places['argument']}` have {length:,} tokens; the {part}'s positions end at {most:,}{less}.",
            why=("Where a tokenizer made them, it" if by_hand else "The tokenizer") + " was not asked to truncate."
            if places["argument"] in {"input_ids", "labels"}
            else "They were made for a longer sequence than the model has positions.",
            evidence=seen.seen,
            fixes=self._truncates(places["argument"], most, by_hand),
        )

    def _truncates(self, argument: str, most: int, by_hand: bool) -> tuple[Fix, ...]:
        if argument == "labels":
            told = f"Pass `truncation=True, max_length={most}` to the tokenizer's call that makes the labels."
            label = f"Truncate the labels to {most:,} tokens"
            return (self.offer("truncate", label, told, display=True, length=most),)
        told = "Adds `truncation=True` and `max_length` to the tokenizer's call: what is beyond is not read."
        fix = self.offer("truncate", f"Truncate the text to {most:,} tokens", told, display=by_hand, length=most)
        return (fix,) if argument == "input_ids" else ()

    def _from_text(self, hit: Hit) -> Diagnosis | None:
        """Only sizes that are a model's own number of positions say it without a look."""
        given, has = int(hit["given"] or hit["a"] or 0), int(hit["has"] or hit["b"] or 0)
        if hit["size"]:
            given, has = int(hit["index"]) + 1, int(hit["size"])
        if has not in {512, 514, 1024, 1026, 2048, 4096} or given <= has:
            return self._explicit(hit)
        return self._told(given, has)

    def _explicit(self, hit: Hit) -> Diagnosis | None:
        """Messages that are about positions and nothing else."""
        for one, other in (("tokens", "places"), ("chunks", "axial"), ("labels", "allowed")):
            if hit[one]:
                return self._told(int(hit[one]), int(hit[other]), "labels seem" if one == "labels" else "text seems")
        return None

    def _told(self, given: int, has: int, who: str = "text seems") -> Diagnosis:
        padding = f", of which it uses two for the padding: {has - 2:,} fit" if has in {514, 1026} else ""
        return self.found(
            f"The {who} to have {given:,} tokens, and the model {has:,} positions{padding}",
            Certainty.LIKELY,
            what=f"The call asked for {given:,} positions or more, and there are {has:,}.",
            why="The tokenizer was not asked to truncate: pass `truncation=True` and `max_length`.",
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        arguments = {"truncation": "True", "max_length": str(fix.parameters["length"])}
        return edit_cells(scene, lambda source: set_arguments(source, _tokenizes, arguments), apart=True)


def _tokenizes(call: object) -> bool:
    """A call that asks for tensors or padding, as only tokenizers are asked."""
    names = {arg.keyword.value for arg in getattr(call, "args", ()) if arg.keyword is not None}
    return bool(names & {"return_tensors", "padding", "truncation"})
