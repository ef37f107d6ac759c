"""Which tokens of a batch are padding: what its mask says, or what its rows look like."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

ARGUMENTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "decoder_input_ids",
    "decoder_attention_mask",
    "labels",
)
"""Arguments of a call that can be given again row by row."""
PLAIN = (type(None), bool, int, float, str)
FOR_THE_LOSS = re.compile(
    r"label|^(?:start_positions|end_positions|num_items_in_batch|is_impossible|cls_index|targets?|float_answer)$"
)
"""Arguments that tell a model only what the answer should have been: without them it answers the same."""


@dataclass(frozen=True)
class Padding:
    """The token that fills rows up. ``shared``: it also ends or begins texts; ``known``: a tokenizer of the notebook pads with it."""

    token: int
    shared: bool
    known: bool


@dataclass(frozen=True)
class Batch:
    """What a call passes, and which of it is text.

    ``given``: tensors by argument; ``mask`` and ``decoder_mask`` (None without ids of a decoder): 1 at text and 0 at padding, of
    shape (rows, length); ``contradicted``: the mask passed counts padding as text; ``expression``: gives the mask in the person's
    program, empty where nothing simple does; ``holds_mask``: the inputs hold it.
    """

    given: Mapping[str, Any]
    mask: Any
    decoder_mask: Any = None
    contradicted: bool = False
    expression: str = ""
    holds_mask: bool = False

    @property
    def ids(self) -> Any:
        return self.given["input_ids"]

    @property
    def begins_padded(self) -> bool:
        """Whether a row begins with padding."""
        return bool((self.mask[:, 0] == 0).any())

    @property
    def side(self) -> str:
        left, right = self.begins_padded, bool((self.mask[:, -1] == 0).any())
        sides = [name for name, there in (("left", left), ("right", right)) if there]
        return "both sides" if len(sides) == 2 else sides[0] if sides else "inside"


def placed(side: str) -> str:
    """The side of a batch in words: ``on the left``, ``on both sides``, ``inside``."""
    return {"both sides": "on both sides", "inside": "inside"}.get(side, f"on the {side}")


def padding_of(model: Any, namespace: Mapping[str, Any]) -> Padding | None:
    """The padding token of a model, else of the notebook's tokenizers where they agree; ``None`` where nothing names one."""
    config = vars(model).get("config")
    own = _plain(config, "pad_token_id")
    tokenizers = [value for value in list(namespace.values()) if is_tokenizer(value)]
    theirs = {token for value in tokenizers if _is_id(token := _plain(value, "pad_token_id"))}
    token = own if _is_id(own) else next(iter(theirs)) if len(theirs) == 1 else None
    if token is None:
        return None
    ends: set[int] = set()
    for owner in (config, vars(model).get("generation_config"), *tokenizers):
        for name in ("eos_token_id", "bos_token_id"):
            value = _plain(owner, name)
            ends.update(entry for entry in (value if isinstance(value, (list, tuple)) else [value]) if _is_id(entry))
    return Padding(token, token in ends, token in theirs)


def infers_mask(model: Any, padding: Padding | None, *, knows: bool = True) -> bool:
    """Whether ``generate`` makes the mask itself where none is passed.

    It cannot where the padding token also ends texts, nor where it is not told that token (``knows``); and since transformers 5.2 it
    makes none for encoders.
    """
    if padding is None or padding.shared or not knows:
        return padding is None
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return True
    version = re.match(r"(\d+)\.(\d+)", str(getattr(sys.modules.get("transformers"), "__version__", "")))
    return version is not None and (int(version[1]), int(version[2])) < (5, 2)


def is_tokenizer(value: object) -> bool:
    return any(base.__name__ == "PreTrainedTokenizerBase" for base in type(value).__mro__)


def _plain(owner: object, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # a configuration of the person's own may raise what it likes
        return None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def text_mask(ids: Any, padding: Padding, *, asked: bool = False, starts: bool = False) -> Any:
    """1 at text and 0 at padding for ids of shape (rows, length); ``None`` where the token does not stand for padding there.

    A token that ends texts, too, is padding only beyond what every row has of it at that edge, and where some row has two more: one
    alone ends a text, as in blocks that were cut from joined documents. A token that no tokenizer pads with is padding in runs of
    two or more only: toy programs draw ids from the whole vocabulary, 0 included (``asked``: a person says that there is padding).
    ``starts``: what all rows have of it at their start starts a decoder, as some models want it.
    """
    torch: Any = sys.modules["torch"]  # the ids are its tensors
    if not ids.numel():
        return None
    here = ids.detach().cpu() == padding.token
    left, right, place = _run(here), _run(here.flip(1)), torch.arange(ids.shape[1])
    if padding.shared or starts:
        first, left = left[:, None], left - left.min()
        if starts:
            here &= ~((place >= left[:, None]) & (place < first))
    if padding.shared:
        right = right - right.min()
        least = 1 if starts else 2
        left, right = (run if int(run.max()) >= least else run * 0 for run in (left, right))
    if not bool(here.any()):
        return None
    edge = ((place < left[:, None]) | (place >= ids.shape[1] - right[:, None])) & here
    if padding.shared:
        return (~edge).long() if bool(edge.any()) else None
    if not (padding.known or asked):
        inner = here & ~edge
        alone = inner.clone()
        alone[:, 1:] &= ~here[:, :-1]
        alone[:, :-1] &= ~here[:, 1:]
        long = torch.maximum(left, right).max() > 1 or (bool(inner.any()) and not bool(edge.any()))
        if bool(alone.any()) or not bool(long):
            return None
    return (~here).long()


def _run(here: Any) -> Any:
    """How many entries in each row are true from its start on."""
    return here.long().cumprod(1).sum(1)


def contradicts(mask: Any, text: Any, padding: Padding) -> bool:
    """Whether a mask counts padding as text; the one token that ends a text is text where it is the padding token, too."""
    attended = ((mask.cpu() != 0) & (text == 0)).sum(1)
    return bool((attended > (1 if padding.shared else 0)).any())


def batch_of(
    model: Any, given: Mapping[str, Any], padding: Padding | None, *, asked: bool = False, mask: Any = None
) -> Batch | None:
    """Read a call's arguments; ``None`` where no row is padded. ``mask`` is one that the program has beside these ids.

    A mask that does not count padding as text is believed; so is that one before the looks of the rows.
    """
    ids: Any = given["input_ids"]
    passed: Any = given.get("attention_mask")
    text = text_mask(ids, padding, asked=asked) if padding is not None else None
    usable = is_mask(passed, ids)
    wrong = usable and text is not None and padding is not None and contradicts(passed, text, padding)
    if usable and not wrong:
        text = (passed.detach().cpu() != 0).long()
    elif is_mask(mask, ids) and not (text is not None and padding is not None and contradicts(mask, text, padding)):
        text = (mask.detach().cpu() != 0).long()
    decoder: Any = given.get("decoder_input_ids")
    decoder_text = None
    if decoder is not None and padding is not None:
        own: Any = given.get("decoder_attention_mask")
        decoder_text = (
            (own.detach().cpu() != 0).long() if is_mask(own, decoder) else text_mask(decoder, padding, starts=True)
        )
    if text is None and decoder_text is None:
        return None
    if text is None:
        text = (ids.detach().cpu() == ids.detach().cpu()).long()
    if bool(text.all()) and (decoder_text is None or bool(decoder_text.all())):
        return None
    device = ids.device
    return Batch(
        dict(given),
        text.to(device),
        None if decoder_text is None else decoder_text.to(device),
        contradicted=bool(wrong),
    )


def is_mask(mask: Any, ids: Any) -> bool:
    """Whether it is a mask of these ids: one number for each of them."""
    same = type(mask) is type(ids)
    return same and bool(mask.shape == ids.shape)


def extra(named: Mapping[str, Any], ignored: Collection[str] = ()) -> list[str]:
    """Arguments of a call that can neither be given again row by row nor be left out (images, caches, embeddings), by name."""
    others = [(name, value) for name, value in named.items() if name not in ARGUMENTS and name not in ignored]
    return [name for name, value in others if not _is_plain(value) and not FOR_THE_LOSS.search(name)]


def _is_plain(value: Any) -> bool:
    """Whether it is a setting: a number (of no dimension, where it is a tensor), a word, or a list of them."""
    if isinstance(value, PLAIN) or getattr(value, "ndim", None) == 0:
        return True
    return isinstance(value, (list, tuple, set)) and all(_is_plain(entry) for entry in islice(value, 8))
