"""Runs a model on padded rows: as given, with the mask, and each row alone without padding, which is the truth.

Differences are taken at text only. The model runs in eval mode and without gradients; its flags, buffers and attributes and the random
states are put back.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfdiag_ipython.probes.padding_batch import Batch
from tfdiag_ipython.probes.training_state import TrainingState

MOST_ROWS = 16
"""Rows that are run alone: each costs a forward pass."""
SECONDS = 60.0
"""Time after which no further row is run."""
RUNS = 8
"""What a comparison costs, in runs as long as the first: variants, and rows one by one, which are shorter."""
NEW_TOKENS = 8
"""Tokens generated per row at most, without sampling."""
OUTPUTS = ("logits", "last_hidden_state", "prediction_logits", "start_logits")
ROUNDING = {"float32": 64, "float64": 64}
"""Differences that are rounding, in units of the dtype's eps times the largest output; see ``_tolerance``."""
ROUNDING_LOW = 8
"""The same for bfloat16 and float16, where tiny models of 2 to 6 layers differed by up to 5 between a row alone and in a batch."""


class Incomparable(LookupError):
    """The model cannot be run so, or gives nothing to compare; says why in a sentence."""


class TooSlow(LookupError):
    """The comparison would take longer than it may."""


@dataclass(frozen=True)
class Row:
    """One row against itself alone: text tokens, largest difference by variant, and the answers as given and alone.

    An answer is a class, a token, or the tokens generated; ``None`` for hidden states, which answer nothing.
    """

    number: int
    tokens: int
    differences: Mapping[str, float]
    answers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """``rows`` as run alone; ``tolerance``: the largest difference that is rounding; ``output``: what was compared."""

    rows: tuple[Row, ...]
    tolerance: float
    output: str
    seconds: float

    def worst(self, variant: str) -> float | None:
        """The largest difference of a variant to the rows alone; ``None`` where it was not run."""
        found = [row.differences[variant] for row in self.rows if variant in row.differences]
        return max(found) if found else None

    def wrong(self, variant: str = "given") -> bool:
        """Whether a variant differs from the rows alone by more than rounding."""
        return (self.worst(variant) or 0.0) > self.tolerance


def compare_calls(model: Any, batch: Batch, torch: Any, within: float = math.inf) -> Comparison:
    """Compare forward passes: ``given``, ``without`` any mask, ``with`` the mask of the text, and what else may cure it.

    ``positions`` adds position ids that skip the padding, ``right`` puts the padding on the right; they are run where the mask alone
    does not cure it. Raises ``TooSlow`` where the first run shows that all of them would take more than ``within`` seconds.
    """
    run = _Forward(model, batch)
    masks = {"attention_mask": batch.mask}
    if batch.decoder_mask is not None:
        masks["decoder_attention_mask"] = batch.decoder_mask
    without = {key: value for key, value in batch.given.items() if key not in masks}
    variants: dict[str, Callable[[], Mapping[str, Any]]] = {"given": lambda: batch.given}
    if "attention_mask" in batch.given:
        variants["without"] = lambda: without
    variants["with"] = lambda: {**without, **masks}
    left = bool((batch.mask[:, 0] == 0).any()) and "decoder_input_ids" not in batch.given
    cures: dict[str, Callable[[], Mapping[str, Any]]] = {}
    if left and run.takes("position_ids"):
        cures["positions"] = lambda: {**without, **masks, "position_ids": skipping(batch.mask)}
    if left and not {"labels", "position_ids"} & set(batch.given):
        cures["right"] = lambda: moved(batch, torch, "right")
    return _compare(run, batch, variants, cures, torch, within)


def compare_generation(
    model: Any, batch: Batch, torch: Any, padding: int, tokens: int, within: float = math.inf
) -> Comparison:
    """Compare ``tokens`` that are generated: ``given``, and ``with`` the mask and the padding where this model wants it."""
    run = _Generation(model, batch, padding, tokens)
    decoder_only = not getattr(model.config, "is_encoder_decoder", False)
    given = {key: batch.given[key] for key in ("input_ids", "attention_mask") if key in batch.given}
    variants: dict[str, Callable[[], Mapping[str, Any]]] = {
        "given": lambda: given,
        "with": lambda: (
            moved(batch, torch, "left") if decoder_only else {"input_ids": batch.ids, "attention_mask": batch.mask}
        ),
    }
    return _compare(run, batch, variants, {}, torch, within)


def skipping(mask: Any) -> Any:
    """Position ids that count text only."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def moved(batch: Batch, torch: Any, side: str) -> dict[str, Any]:
    """Ids (and token types) with all padding on this side, and their mask."""
    order = torch.argsort(batch.mask, dim=1, stable=True, descending=side == "right")
    names = [name for name in ("input_ids", "token_type_ids") if name in batch.given]
    found = {name: batch.given[name].gather(1, order) for name in names}
    return {**found, "attention_mask": batch.mask.gather(1, order)}


def _compare(
    run: _Forward | _Generation,
    batch: Batch,
    variants: Mapping[str, Callable[[], Mapping[str, Any]]],
    cures: Mapping[str, Callable[[], Mapping[str, Any]]],
    torch: Any,
    within: float,
) -> Comparison:
    began = time.perf_counter()
    with quiet(run.model, torch):
        outputs: dict[str, Any] = {}
        for name, make in variants.items():
            outputs[name] = run(make())
            run.values(outputs[name]).flatten()[:1].tolist()  # waits for the device
            if len(outputs) == 1 and (time.perf_counter() - began) * RUNS > within:
                raise TooSlow("comparing would take too long")
        numbers = _rows(batch)
        alone: dict[int, Any] = {}
        for number in numbers:
            if alone and time.perf_counter() - began > SECONDS:
                break
            alone[number] = run.alone(number)
        tolerance = _tolerance(run, batch, outputs, alone, torch)
        for name, make in cures.items():
            if max(run.difference(outputs["with"], alone[number], number) for number in alone) <= tolerance:
                break
            outputs[name] = run(make())
    rows = []
    for number, truth in alone.items():
        if bool((batch.mask[number] != 0).all()) and not run.padded(number):
            continue
        differences = {
            name: run.difference(output, truth, number, "right" if name == "right" else "")
            for name, output in outputs.items()
        }
        answers = {"given": run.answer(outputs["given"], number), "alone": run.answer(truth, None)}
        if "without" in outputs:
            answers["without"] = run.answer(outputs["without"], number)
        rows.append(Row(number, int(batch.mask[number].sum()), differences, answers))
    return Comparison(tuple(rows), tolerance, run.output, time.perf_counter() - began)


def _rows(batch: Batch) -> list[int]:
    """The rows to run alone: those with padding first, and one without, whose difference is rounding."""
    full = (batch.mask != 0).all(dim=1)
    if batch.decoder_mask is not None:
        full &= (batch.decoder_mask != 0).all(dim=1)
    text = [bool(there) for there in (batch.mask != 0).any(dim=1)]
    padded = [number for number, whole in enumerate(full) if not bool(whole) and text[number]]
    return [*padded[: MOST_ROWS - 1], *[number for number, whole in enumerate(full) if bool(whole)][:1]]


def _tolerance(run: Any, batch: Batch, outputs: Mapping[str, Any], alone: Mapping[int, Any], torch: Any) -> float:
    """What rounding explains: the dtype's own, and four times what rows without padding and a repeated row show of it."""
    first = next(iter(alone))
    kind = str(run.values(outputs["given"]).dtype).rpartition(".")[2]
    scale = max((float(run.values(truth).float().abs().max()) for truth in alone.values()), default=0.0)
    if not math.isfinite(scale):
        raise Incomparable("a row alone gives NaN or infinite outputs: there is nothing to compare with")
    noise = run.repeated(first, alone[first])
    for number, truth in alone.items():
        if bool((batch.mask[number] != 0).all()) and not run.padded(number):
            noise = max(noise, run.difference(outputs["with"], truth, number))
    noise = noise if math.isfinite(noise) else 0.0
    eps = torch.finfo(run.values(outputs["given"]).dtype).eps
    return float(max(ROUNDING.get(kind, ROUNDING_LOW) * eps * max(scale, 1e-3), 4 * noise))


class _Forward:
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


class _Generation(_Forward):
    """Tokens generated without sampling, and the scores of the first one."""

    def __init__(self, model: Any, batch: Batch, padding: int, tokens: int) -> None:
        super().__init__(model, batch)
        self.padding = padding
        self.tokens = tokens
        self.output = "the first new token's logits"

    def __call__(self, given: Mapping[str, Any]) -> Any:
        settings = {"max_new_tokens": self.tokens, "do_sample": False, "num_beams": 1, "pad_token_id": self.padding}
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
        while tokens and tokens[-1] == self.padding:  # after the end, a row is filled up
            tokens.pop()
        return tuple(tokens)


def _is_output(value: Any, rows: int) -> bool:
    shape = getattr(value, "shape", None)
    return shape is not None and len(shape) >= 1 and shape[0] == rows and value.is_floating_point()


def _counts_padding(positions: Any, real: Any) -> bool:
    """Whether positions only go on counting through the padding on the left, as they would where none were passed."""
    place = real.nonzero().flatten()
    return bool(len(place)) and bool(place[0] > 0) and bool((positions[real] == place).all())


@contextlib.contextmanager
def quiet(model: Any, torch: Any) -> Iterator[None]:
    """Eval mode without gradients and without the library's warnings; all that a run changes in the model is put back.

    The flags are set one by one: ``eval()`` may be the person's own method, and so may ``forward``, which may count or keep what it likes.
    """
    logger = logging.getLogger("transformers")
    level = logger.level
    with TrainingState(torch, model, weights=False), torch.no_grad(), warnings.catch_warnings():
        try:
            logger.setLevel(logging.CRITICAL)
            warnings.simplefilter("ignore")
            for module in model.modules():
                module.training = False
            yield
        finally:
            logger.setLevel(level)
