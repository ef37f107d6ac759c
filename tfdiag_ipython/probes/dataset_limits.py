"""What a model can take of each column of a data set, and what was seen of it.

Source: ``ForQuestionAnswering`` of transformers 4.57 and 5.23: they bring an answer's positions into the row and pass over those behind its end,
but for XLNet, XLM and Flaubert, which use them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tfdiag_ipython.probes._positions import is_count, learned, said_by

IGNORED = -100
SHOWN = 5
"""Offenders that are shown of each column."""
ANSWERS = ("start_positions", "end_positions")
_UNCLAMPED = frozenset({"xlnet", "xlm", "flaubert"})


@dataclass
class Limit:
    """What a column may hold, and what was seen of it.

    Values from 0 to ``limit - 1``, at most ``limit`` tokens a row (``length``), or places among the row's own tokens (``answer``);
    ``passes_over`` says that the loss passes over what is behind those. ``odd`` are rows whose entry is no index at all, with what it is.
    """

    column: str
    kind: str  # label, id, type, length or answer
    limit: int
    origin: str
    passes_over: bool = False
    count: int = 0
    rows: int = 0
    smallest: int | None = None
    largest: int | None = None
    checked: int = 0
    first: list[tuple[int, int]] = field(default_factory=list)
    odd: list[tuple[int, str]] = field(default_factory=list)
    odd_rows: int = 0

    def look(self, number: int, row: Any, torch: Any) -> None:
        """Hold one row's entry against the limit; what is not made of integers is no index."""
        value = row[self.column]
        try:
            values = torch.as_tensor(value)
            limit = self.limit if self.kind != "answer" else int(torch.as_tensor(row["input_ids"]).shape[-1])
        except Exception:
            if self.kind != "answer":
                self._odd(number, value)
            return
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool or not values.numel():
            return
        self.checked += 1
        if self.kind == "length":
            length = int(values.shape[-1]) if values.dim() else 1
            self._range(length, length)
            if length > limit:
                self._note(number, length, 1)
            return
        values = values.reshape(-1)
        if self.kind == "label":
            values = values[values != IGNORED]
            if not values.numel():
                return
        low, high = int(values.min()), int(values.max())
        self._range(low, high)
        if low < 0 or high >= limit:
            wrong = values[(values < 0) | (values >= limit)]
            self._note(number, int(wrong[0]), int(wrong.numel()))

    @property
    def matters(self) -> bool:
        """Whether its offenders are a fault. An answer that was cut off is behind the row's end, and meant to be passed over: not so most of them."""
        return bool(self.count) and (not self.passes_over or 2 * self.rows > self.checked)

    def facts(self) -> dict[str, Any]:
        return vars(self) | {"first": tuple(self.first), "odd": tuple(self.odd), "matters": self.matters}

    def _odd(self, number: int, value: Any) -> None:
        self.odd_rows += 1
        if len(self.odd) < SHOWN:
            self.odd.append((number, _what(value)))

    def _range(self, low: int, high: int) -> None:
        self.smallest = low if self.smallest is None else min(self.smallest, low)
        self.largest = high if self.largest is None else max(self.largest, high)

    def _note(self, number: int, value: int, count: int) -> None:
        self.count += count
        self.rows += 1
        if len(self.first) < SHOWN:
            self.first.append((number, value))


def _what(value: Any) -> str:
    if type(value) is str:
        return f"the text {value[:40]!r}"
    if type(value) in (list, tuple):
        texts = next((one for one in value if type(one) is str), None)
        return f"a list with the text {texts[:40]!r}" if texts is not None else "a list of unequal parts"
    return f"a {type(value).__name__}"


def limits_of(model: Any, name: str, torch: Any) -> list[Limit]:
    """What the model can take, column by column; a column whose limit it does not tell is left out."""
    config = getattr(model, "config", None)
    kinds = [base.__name__ for base in type(model).__mro__]
    found: list[Limit] = []
    words = _rows_of(model, "get_input_embeddings", torch)
    if words:
        told = f"{name}.get_input_embeddings()"
        found += [
            Limit(column, "id", words, f"`{told}` has {words:,} rows") for column in ("input_ids", "decoder_input_ids")
        ]
    types = getattr(config, "type_vocab_size", 0)
    if is_count(types):
        found.append(Limit("token_type_ids", "type", types, f"`{name}.config.type_vocab_size` is {types}"))
    classes, heads = getattr(config, "num_labels", 0), _rows_of(model, "get_output_embeddings", torch)
    classifies = any("Classification" in kind for kind in kinds)
    decodes = getattr(config, "is_encoder_decoder", False) is True
    places = _positions(_part(model, "get_encoder") if decodes else model, model, torch)
    if places:
        found.append(Limit("input_ids", "length", places, f"`{name}` has {places:,} positions"))
    places = _positions(_part(model, "get_decoder"), model, torch) if decodes else 0
    if places:
        told = f"the decoder of `{name}` has {places:,} positions"
        columns = ("decoder_input_ids",) if classifies or not heads else ("decoder_input_ids", "labels")
        found += [Limit(column, "length", places, told) for column in columns]
    if classifies:
        indices = getattr(config, "problem_type", None) in (None, "single_label_classification")
        if indices and is_count(classes) and classes > 1:  # one class is a regression
            told = f"`{name}.config.num_labels` is {classes}"
            found += [Limit(column, "label", classes, told) for column in ("labels", "label", "label_ids")]
    elif any("ForQuestionAnswering" in kind for kind in kinds):
        clamps = getattr(config, "model_type", "") not in _UNCLAMPED
        told = "the loss passes over what is behind the row's end" if clamps else "an answer lies within its row"
        found += [Limit(column, "answer", 0, told, clamps) for column in ANSWERS]
    elif heads:
        found.append(Limit("labels", "label", heads, f"`{name}` predicts {heads:,} tokens"))
    return found


def _rows_of(model: Any, method: str, torch: Any) -> int:
    """The rows of the embedding or the head that a model's method gives; 0 where it has none."""
    layer = _part(model, method)
    weight = getattr(layer, "weight", None)
    takes_ids = isinstance(layer, torch.nn.Embedding if method == "get_input_embeddings" else torch.nn.Module)
    return int(weight.shape[0]) if takes_ids and isinstance(weight, torch.Tensor) and weight.dim() == 2 else 0


def _part(model: Any, method: str) -> Any:
    """What a model's method gives; not every model has it, and some say so by raising."""
    try:
        return getattr(model, method)()
    except Exception:
        return None


def _positions(part: Any, model: Any, torch: Any) -> int:
    """The tokens that the learned positions next to the embedding of tokens are for: those of pictures lie elsewhere in the model."""
    if not isinstance(part, torch.nn.Module):
        return 0
    words = _part(part, "get_input_embeddings")
    if words is None and isinstance(tower := getattr(part, "text_model", None), torch.nn.Module):
        part = tower  # CLIP and its like have no embedding of tokens that is the model's own
    path = next((name for name, module in part.named_modules() if module is words), "")
    said = said_by(model) or said_by(part)
    while True:
        path = path.rpartition(".")[0]
        found = learned(part.get_submodule(path), torch)
        if found or not path:
            return min(found, said) if found and said else found
