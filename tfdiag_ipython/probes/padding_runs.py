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
from tfdiag_ipython.probes.padding_models import MOST_ROWS, Forward, Generation, Incomparable
from tfdiag_ipython.probes.training_state import TrainingState

SECONDS = 60.0
"""Time after which no further row is run."""
RUNS = 8
"""What a comparison costs, in runs as long as the first: variants, and rows one by one, which are shorter."""
NEW_TOKENS = 8
"""Tokens generated per row at most, without sampling."""
ROUNDING = {"float32": 64, "float64": 64}
"""Differences that are rounding, in units of the dtype's eps times the largest output; see ``_tolerance``."""
ROUNDING_LOW = 8
"""The same for bfloat16 and float16, where tiny models of 2 to 6 layers differed by up to 5 between a row alone and in a batch."""


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


def compare_calls(
    model: Any, batch: Batch, torch: Any, within: float = math.inf, kind: type[Forward] = Forward
) -> Comparison:
    """Compare forward passes: ``given``, ``without`` any mask, ``with`` the mask of the text, and what else may cure it.

    ``positions`` adds position ids that skip the padding, ``right`` puts the padding on the right; they are run where the mask alone
    does not cure it. Raises ``TooSlow`` where the first run shows that all of them would take more than ``within`` seconds.
    """
    run = kind(model, batch)
    masks = {"attention_mask": batch.mask}
    if batch.decoder_mask is not None:
        masks["decoder_attention_mask"] = batch.decoder_mask
    without = {key: value for key, value in batch.given.items() if key not in masks}
    variants: dict[str, Callable[[], Mapping[str, Any]]] = {"given": lambda: batch.given}
    if "attention_mask" in batch.given:
        variants["without"] = lambda: without
    variants["with"] = lambda: {**without, **masks}
    cures: dict[str, Callable[[], Mapping[str, Any]]] = {}
    if batch.begins_padded and run.takes("position_ids"):
        cures["positions"] = lambda: {**without, **masks, "position_ids": skipping(batch.mask)}
    if batch.begins_padded and "position_ids" not in batch.given:
        cures["right"] = lambda: moved(batch, torch, "right")
    return _compare(run, batch, variants, cures, torch, within)


def compare_generation(
    model: Any, batch: Batch, torch: Any, padding: int, tokens: int, within: float = math.inf, *, knows: bool = True
) -> Comparison:
    """Compare ``tokens`` that are generated: ``given``, ``without`` any mask, ``with`` it and the padding where a decoder wants it.

    ``right`` puts an encoder's padding on the right, where the mask alone does not cure it. ``knows``: see :class:`Generation`.
    """
    run = Generation(model, batch, padding, tokens, knows=knows)
    names = ("input_ids", "attention_mask")
    given = {name: batch.given[name] for name in names if name in batch.given}

    def padded(side: str) -> dict[str, Any]:
        whole = moved(batch, torch, side)
        return {name: whole[name] for name in names}

    variants: dict[str, Callable[[], Mapping[str, Any]]] = {"given": lambda: given}
    if "attention_mask" in given:
        variants["without"] = lambda: {"input_ids": batch.ids}
    variants["with"] = lambda: padded("left")
    cures: dict[str, Callable[[], Mapping[str, Any]]] = {}
    if getattr(model.config, "is_encoder_decoder", False):
        variants["with"] = lambda: {"input_ids": batch.ids, "attention_mask": batch.mask}
        cures = {"right": lambda: padded("right")} if batch.begins_padded else {}
    return _compare(run, batch, variants, cures, torch, within)


def skipping(mask: Any) -> Any:
    """Position ids that count text only."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def moved(batch: Batch, torch: Any, side: str) -> dict[str, Any]:
    """The call with all padding on this side, the decoder's, too, and their masks."""
    found = {name: value for name, value in batch.given.items() if name != "position_ids"}
    for mask, argument, names in (
        (batch.mask, "attention_mask", ("input_ids", "token_type_ids")),
        (batch.decoder_mask, "decoder_attention_mask", ("decoder_input_ids",)),
    ):
        if mask is not None:
            order = torch.argsort(mask, dim=1, stable=True, descending=side == "right")
            found |= {name: found[name].gather(1, order) for name in names if name in found}
            found[argument] = mask.gather(1, order)
    return found


def _compare(
    run: Forward | Generation,
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
