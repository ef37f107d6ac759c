from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix, Link
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.statements import insert_before_call
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.index_tensors import IndexTensorsProbe
from tfdiag_ipython.probes.special_tokens import SpecialTokensProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try
from tfdiag_ipython.rules.idx._examples import SETUP
from tfdiag_ipython.rules.idx._words import bad_special_token, outside, too_long

IGNORED = -100
"""What losses pass over."""
ROLES = {"tokens": "token id", "token types": "token type id", "positions": "position id"}


class EmbeddingIndexOutOfRange(Rule):
    """An id is not a row of the embedding that it is looked up in.

    *What it means*
    An embedding with N rows takes ids 0 to N - 1. One of the ids given is outside; on a GPU the same call is a device-side assert.

    *Why it happens*
    Tokens were added to the tokenizer and the embedding was not resized; the tokenizer belongs to another checkpoint; a home-made model
    has a smaller `vocab_size`; `token_type_ids` are given to a model with one type; labels, in which -100 is to be ignored, are given as ids.

    *How tfdiag confirms it*
    It finds the call in the frames, reads the ids (on the host only), names the module whose rows they index, and compares the tokenizer's
    length with the rows. Where no embedding is in the traceback it is silent: `index_select` raises the same words (IDX007).

    *Fixes and their safety*
    `resize-embeddings` (unsafe: the new rows are untrained) adds `model.resize_token_embeddings(len(tokenizer))` before the call.

    *Example*
    `tokenizer.add_tokens(["x"]); model(**tokenizer("x", return_tensors="pt"))`

    *References*
    torch: `nn.functional.embedding`; transformers: `PreTrainedModel.resize_token_embeddings`.
    """

    code = "IDX001"
    name = "embedding-index-out-of-range"
    raised = ("builtins.IndexError", "builtins.RuntimeError")  # torch below 1.5 raised the latter
    message = re.compile(
        r"index out of range in self[ \t]*(?:\Z|\n)|index out of range: Tried to access index (?P<index>\d+) out of table"
        r"|(?P<bare>\Aindex out of range\Z)"
        r"|index out of range at \S*THTensor\w*\.cpp|(?P<guarded>tfdiag\.guard stopped embedding(?!_))"
        # these say the number and the rows: they are only spoken of where the ids were read
        r"|(?P<told>Index \d+ of input takes value -?\d+ which is not in the valid range|embedding_bag: Expected idx >= 0"
        r"|Expected i < index_size to be true"
        r"|select\(\): index -?\d+ out of range for tensor of size)"
    )
    needs = (IndexTensorsProbe, SpecialTokensProbe)
    fixes = (Offer("resize-embeddings", Applicability.UNSAFE),)
    links = (
        Link(
            "resize_token_embeddings",
            "https://huggingface.co/docs/transformers/main_classes/model#transformers.PreTrainedModel.resize_token_embeddings",
        ),
    )
    CASES = (
        Match(text="IndexError: index out of range in self", certainty=Certainty.LIKELY, title="id .* embedding"),
        Match(
            text="IndexError: index out of range in self",
            evidence={
                "index-tensors": {
                    "kind": "embedding",
                    "limit": 30522,
                    "module": "bert.embeddings.word_embeddings",
                    "role": "tokens",
                    "values": {
                        "smallest": 0,
                        "largest": 30523,
                        "first": 30523,
                        "place": (0, 4),
                        "count": 2,
                        "total": 9,
                    },
                    "config": {"vocab_size": 30522},
                    "model": "model",
                    "tokenizer": "tokenizer",
                    "tokenizer_length": 30524,
                    "length": 9,
                }
            },
            certainty=Certainty.CONFIRMED,
            title="30,523.*30,?522 rows.*tokenizer.*30,?524",
            fixes=("resize-embeddings",),
        ),
        Match(
            text="RuntimeError: index out of range: Tried to access index 30 out of table with 29 rows. at /pytorch/aten/src/TH/x.cpp:237",
            title=r"id \(30\)",
        ),
        NoMatch(text="IndexError: index out of range"),
        NoMatch(text="IndexError: list index out of range"),
        NoMatch(
            text="RuntimeError: Index 1 of input takes value 9 which is not in the valid range [0, 5)"
        ),  # says it all
        NoMatch(text="IndexError: index out of range in self-made buffer"),
        NoMatch(text="IndexError: index 5 is out of bounds for axis 0 with size 5"),
        Reproduce(
            (
                SETUP,
                "tokenizer = make_tokenizer()\ntokenizer.add_tokens(['brilliant'])\nmodel = BertForSequenceClassification(BertConfig(**sizes))",
                "batch = tokenizer('a brilliant film', return_tensors='pt')\nscores = model(**batch).logits",
            ),
            title=r"token id 7.*7 rows.*8 tokens",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("resize-embeddings"),),
        ),
        Reproduce(
            (
                SETUP,
                "tokenizer = make_tokenizer()\ntokenizer.add_tokens(['brilliant'])\nmodel = BertForSequenceClassification(BertConfig(**sizes))",
                "scores = model(torch.tensor([[3, 99]])).logits",
            ),
            title=r"token id 99, and `bert.embeddings.word_embeddings` has 7 rows \(0 to 6\)\Z",  # no resizing helps
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            (SETUP, "table = torch.nn.Embedding(4, 2)", "table(torch.tensor([[0, 1], [9, 3]]))"),
            title=r"id 9.*4 rows",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(  # the configuration knows the new padding token, and is right
            (
                SETUP,
                "tokenizer = make_tokenizer()\ntokenizer.add_special_tokens({'pad_token': '[NEW]'})\n"
                "model = BertForSequenceClassification(BertConfig(**sizes))\nmodel.config.pad_token_id = tokenizer.pad_token_id",
                "model(**tokenizer(['a film', 'film'], padding=True, return_tensors='pt'))",
            ),
            title=r"token id 7.*7 rows.*8 tokens",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("resize-embeddings"),),
        ),
        Reproduce(
            (
                SETUP,
                "model = BertForSequenceClassification(BertConfig(**sizes))\nlabels = torch.tensor([[3, -100]])",
                "model(labels)",
            ),
            title="hold -100, which only labels may hold, and .* has 7 rows",
            certainty=Certainty.CONFIRMED,
        ),
        Reproduce(
            ("import torch\nbags = torch.nn.EmbeddingBag(5, 2)", "ids = torch.tensor([[1, 2], [9, 0]])", "bags(ids)"),
            title=r"id 9, and the embedding has 5 rows",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
        Reproduce(
            (
                "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                "        self.wpe = torch.nn.Embedding(4, 2)\n    def forward(self, x):\n        return self.wpe(torch.arange(len(x)))",
                "net = Net()",
                "net(torch.zeros(5))",
            ),
            title=r"position id 4, and `wpe` has 4 rows",
            certainty=Certainty.CONFIRMED,
            needs=("torch",),
        ),
        Reproduce(
            (
                SETUP,
                "model = BertForSequenceClassification(BertConfig(**sizes))\nids = torch.tensor([[3, 7]])",
                "import tfdiag_ipython\nwith tfdiag_ipython.guard():\n    model(ids)",
            ),
            title=r"token id 7.*word_embeddings` has 7 rows",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[IndexTensorsProbe.name]
        values = seen.get("values") or {}
        if hit["bare"] and not any(frame.function == "embedding" for frame in hit.raised.frames):
            return None  # Python's or another library's index
        if too_long(seen, hit.raised.message) or bad_special_token(seen, evidence[SpecialTokensProbe.name]):
            return None  # the sequence is too long (IDX002, IDX010), or the configuration names the id (IDX009)
        if (hit["guarded"] or hit["told"]) and "first" not in values:
            return None  # the words themselves say as much
        looked_up = any(frame.function in {"embedding", "embedding_bag"} for frame in hit.raised.frames)
        if not failure.stored and hit.raised.frames and not looked_up:
            return None  # no embedding is in this traceback, so these are no ids
        if seen.get("kind") != "embedding" or "first" not in values:
            return self.found(
                f"An id{' (' + hit['index'] + ')' if hit['index'] else ''} is not a row of the embedding that it is looked up in",
                Certainty.LIKELY,
                what="An embedding with N rows takes ids 0 to N - 1; one of the ids given is outside.",
                why="Most often tokens were added without resizing the embedding, the tokenizer belongs to another model, or the text is "
                "longer than the model has positions.",
            )
        limit, role = seen["limit"], ROLES.get(seen["role"], "id")
        made = seen["role"] == "tokens" and seen["tokenizer_length"] > max(
            limit, values["largest"]
        )  # the ids can be its own
        longer = made and values["smallest"] >= 0
        module = f"`{seen['module']}`" if seen["module"] else "the embedding"
        held = f"{role} {values['first']:,}" if values["first"] != IGNORED else f"{IGNORED}, which only labels may hold"
        title = f"The inputs hold {held}, and {module} has {limit:,} rows (0 to {limit - 1:,})"
        if longer:
            title += f": `{seen['tokenizer']}` has {seen['tokenizer_length']:,} tokens"
        offered: tuple[Fix, ...] = ()
        if longer and seen["model"]:
            statement = f"{seen['model']}.resize_token_embeddings(len({seen['tokenizer']}))"
            offered = (
                self.offer(
                    "resize-embeddings",
                    "Resize the embedding to the tokenizer",
                    f"Adds `{statement}` before the call. The new rows are random until they are trained.",
                    statement=statement,
                    model=seen["model"],
                ),
            )
        return self.found(
            title,
            Certainty.CONFIRMED,
            what=outside(values, "ids"),
            why=_why(seen, longer),
            evidence=seen.seen,
            fixes=offered,
            links=self.links if seen["role"] == "tokens" and values["first"] >= limit else (),
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        model, statement = str(fix.parameters["model"]), str(fix.parameters["statement"])
        return edit_cells(scene, lambda source: insert_before_call(source, model, statement), undoable=False)


def _why(seen: Evidence, longer: bool) -> str:
    if longer:
        return "Tokens were added to the tokenizer, or it belongs to another checkpoint, and the embedding was not resized."
    values = seen["values"]
    if values["first"] == IGNORED:
        return "Only losses ignore -100: labels were given as ids, or `input_ids` was filled up with -100 where the padding token belongs."
    if seen["role"] == "positions":
        return "A row is longer than the positions, or `position_ids` were made for longer ones; they count from 0."
    if values["first"] < 0:
        return (
            "An embedding takes no negative id: fill up with the padding token's id. In labels that a decoder reads, write -100, the only "
            "negative number that is replaced."
        )
    if seen["role"] == "token types":
        return "The `token_type_ids` were made for another kind of model: by its tokenizer, or by hand for more segments than this one knows."
    return "The ids were not made for this model: its tokenizer or its `vocab_size` is another one."
