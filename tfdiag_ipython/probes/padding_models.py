"""A model on padded rows and on one row without its padding: what it is given, and which of its outputs stand at text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tfdiag_ipython.probes.padding_batch import Batch

MOST_ROWS = 16
"""Rows that are run alone: each costs a forward pass."""
OUTPUTS = ("logits", "last_hidden_state", "prediction_logits", "start_logits")


class Incomparable(LookupError):
    """The model cannot be run so, or gives nothing to compare; says why in a sentence."""


class Forward:
    """Forward passes of a model, and what to compare of them."""

    def __init__(self, model: Any, batch: Batch) -> None:
        self.model = model
        self.batch = batch
        self.output = ""
        self.classes = getattr(getattr(model, "config", None), "vocab_size", None)
        seq2seq = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        self.encodes = bool(seq2seq) and not {"decoder_input_ids", "labels"} & set(batch.given)
        self.called = model.get_encoder() if self.encodes else model

    def takes(self, name: str) -> bool:
        import inspect

        return name in inspect.signature(self.called.forward).parameters

    def __call__(self, given: Mapping[str, Any]) -> Any:
        keeps = {"labels"} if getattr(getattr(self.model, "config", None), "is_encoder_decoder", False) else set()
        passed = {key: value for key, value in given.items() if key != "labels" or key in keeps}
        rows = int(passed["input_ids"].shape[0])
        try:
            return self._output(self.called(**passed), rows)
        except Incomparable:
            raise
        except Exception as error:
            raise Incomparable(
                f"the model cannot be run on these inputs ({type(error).__name__}: {str(error)[:120]})"
            ) from error

    def _output(self, result: Any, rows: int) -> Any:
        named = result if isinstance(result, Mapping) else {}
        for name in OUTPUTS:
            value = named.get(name, getattr(result, name, None))
            if _is_output(value, rows):
                self.output = name
                return value
        values = list(named.values()) if named else list(result) if isinstance(result, (tuple, list)) else [result]
        values += list(vars(result).values()) if hasattr(result, "__dataclass_fields__") else []
        value = next((value for value in values if _is_output(value, rows)), None)
        if value is None:
            raise Incomparable("the model's output holds no numbers for each row")
        self.output = "the first output"
        return value

    def _given_alone(self, row: int) -> dict[str, Any]:
        """The arguments of one row, without its padding and without masks; positions that only count the padding are left out."""
        real = self.batch.mask[row].bool()
        given: dict[str, Any] = {}
        for name, value in self.batch.given.items():
            if name.endswith("attention_mask"):
                continue
            own = value[row] if value.shape[0] > row and value.shape[0] == len(self.batch.mask) else value[0]
            if name == "decoder_input_ids":
                kept = self.batch.decoder_mask
                given[name] = (own if kept is None else own[kept[row].bool()])[None]
            elif name == "labels" or own.shape != real.shape:
                given[name] = own[None] if own.dim() else own
            elif name != "position_ids" or not _counts_padding(own, real):
                given[name] = own[real][None]
        return given

    def alone(self, row: int) -> Any:
        return self(self._given_alone(row))[0]

    def repeated(self, row: int, truth: Any) -> float:
        """How far the row is from itself where it is run several times in one batch: rounding alone."""
        given = self._given_alone(row)
        count = len(self.batch.mask) if len(self.batch.mask) > 1 else 2
        again = {name: value.repeat(min(count, MOST_ROWS), *[1] * (value.dim() - 1)) for name, value in given.items()}
        return float((self(again)[0].float() - truth.float()).abs().max())

    def padded(self, row: int) -> bool:
        mask = self.batch.decoder_mask
        return mask is not None and bool((mask[row] == 0).any())

    def values(self, output: Any) -> Any:
        return output

    def difference(self, output: Any, truth: Any, row: int, side: str = "") -> float:
        seen, truth = self._at_text(output[row], truth, row, side).float(), truth.float()
        found = float((seen - truth).abs().max()) if truth.numel() else 0.0
        return math.inf if math.isnan(found) else found

    def _at_text(self, seen: Any, truth: Any, row: int, side: str = "") -> Any:
        """The output of a row at its text, which a pooled output has no places for."""
        for mask in (self.batch.decoder_mask, self.batch.mask):
            if mask is None or not seen.dim() or seen.shape[0] != mask.shape[1]:
                continue
            real = mask[row].bool()
            if truth.shape[:1] == (int(real.sum()),) and truth.shape[1:] == seen.shape[1:]:
                return seen[: truth.shape[0]] if side == "right" else seen[real.to(seen.device)]
        if seen.shape != truth.shape:
            raise Incomparable("the outputs of a row alone and in the batch have different shapes")
        return seen

    def answer(self, output: Any, row: int | None) -> Any:
        """What the output says: a class, the token that the last place predicts, or the class of each token."""
        if "logits" not in self.output:
            return None
        seen = output
        if row is not None:
            real = (
                self.batch.mask[row].bool() if self.batch.decoder_mask is None else self.batch.decoder_mask[row].bool()
            )
            seen = output[row]
            if seen.dim() > 1 and seen.shape[0] == real.shape[0]:
                seen = seen[real.to(seen.device)]
        if seen.dim() < 2:
            return int(seen.argmax()) if seen.dim() and seen.numel() > 1 else None
        if seen.shape[-1] == self.classes:
            return int(seen[-1].argmax())
        return tuple(seen.argmax(-1).flatten().tolist())


class Hidden(Forward):
    """Forward passes of which the hidden states below the head are compared."""

    def __call__(self, given: Mapping[str, Any]) -> Any:
        return super().__call__({**given, "output_hidden_states": True, "return_dict": True})

    def _output(self, result: Any, rows: int) -> Any:
        states = getattr(result, "hidden_states", None)
        if not states or not _is_output(states[-1], rows):
            raise Incomparable("the model gives no hidden states")
        self.output = "hidden_states"
        return states[-1]


class Generation(Forward):
    """Tokens generated without sampling, and the scores of the first one. ``knows``: the person's call has the padding token, too."""

    def __init__(self, model: Any, batch: Batch, padding: int, tokens: int, *, knows: bool = True) -> None:
        super().__init__(model, batch)
        self.padding = padding
        self.tokens = tokens
        self.knows = knows
        self.output = "the first new token's logits"

    def __call__(self, given: Mapping[str, Any]) -> Any:
        settings: dict[str, Any] = {"max_new_tokens": self.tokens, "do_sample": False, "num_beams": 1}
        if self.knows or "attention_mask" in given:
            settings["pad_token_id"] = self.padding
        try:
            found = self.model.generate(
                **given, **settings, return_dict_in_generate=True, output_logits=True, use_cache=True
            )
            started = 0 if getattr(self.model.config, "is_encoder_decoder", False) else given["input_ids"].shape[1]
            return found.logits[0], found.sequences[:, started:]
        except Exception as error:
            raise Incomparable(f"the model cannot generate from these inputs ({type(error).__name__})") from error

    def alone(self, row: int) -> Any:
        ids = self.batch.ids[row][self.batch.mask[row].bool()][None]
        logits, tokens = self({"input_ids": ids, "attention_mask": (ids == ids).long()})
        return logits[0], tokens[0]

    def repeated(self, row: int, truth: Any) -> float:
        ids = self.batch.ids[row][self.batch.mask[row].bool()][None].repeat(2, 1)
        logits, _ = self({"input_ids": ids, "attention_mask": (ids == ids).long()})
        return float((logits[0].float() - truth[0].float()).abs().max())

    def values(self, output: Any) -> Any:
        return output[0]

    def difference(self, output: Any, truth: Any, row: int, side: str = "") -> float:
        found = float((output[0][row].float() - truth[0].float()).abs().max())
        return math.inf if math.isnan(found) else found

    def answer(self, output: Any, row: int | None) -> Any:
        tokens = (output[1] if row is None else output[1][row]).tolist()
        while tokens and (
            tokens[-1] == self.padding or tokens[-1] in self._ends()
        ):  # after the end, a row is filled up
            tokens.pop()
        return tuple(tokens)

    def _ends(self) -> list[Any]:
        ends: Any = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        return ends if isinstance(ends, list) else [ends]


def _is_output(value: Any, rows: int) -> bool:
    shape = getattr(value, "shape", None)
    return shape is not None and len(shape) >= 1 and shape[0] == rows and value.is_floating_point()


def _counts_padding(positions: Any, real: Any) -> bool:
    """Whether positions only go on counting through the padding on the left, as they would where none were passed."""
    place = real.nonzero().flatten()
    return bool(len(place)) and bool(place[0] > 0) and bool((positions[real] == place).all())
