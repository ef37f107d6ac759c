"""Does padding change what a model answers? Measured: as given, with the mask that the padding asks for, and row by row without padding."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.cells import newest_versions
from tfdiag_ipython.fixes.model_calls import ModelCall, Program, calls_on
from tfdiag_ipython.fixes.names import lines_bound
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.named_values import named_value
from tfdiag_ipython.probes.padding_batch import (
    ARGUMENTS,
    Batch,
    Padding,
    batch_of,
    extra,
    infers_mask,
    is_mask,
    padding_of,
    placed,
)
from tfdiag_ipython.probes.padding_models import Incomparable
from tfdiag_ipython.probes.padding_places import POSITIONS, what_moved
from tfdiag_ipython.probes.padding_runs import NEW_TOKENS, Comparison, compare_calls, compare_generation

USAGE = "%tfdiag probe padding MODEL INPUTS"
UNMASKED = "The outputs at real tokens change without an attention mask."
CONTRADICTED = "The attention mask counts padding as text."
MOVED = "Padding on the left moves the positions of the text."
LEFT = "Padding on the left changes the answers, whatever the mask."
RIGHT = "A decoder-only model goes on from padding."
CAUSES = {"mask": UNMASKED, "contradicted": CONTRADICTED, "positions": MOVED, "side": LEFT, "generation": RIGHT}
REMEDIES = {"positions": "positions", "side": "right"}
"""What puts a cause right, where it is not the mask."""
SHOWN = 120
"""Characters of a call that are shown."""
Calls = tuple[tuple[str, str], ...]
"""Calls in the person's cells: the cell's label, and the source."""


class PaddingProbe(Probe):
    """Compares a model's outputs on padded inputs; both are named by the person (``%tfdiag probe padding model batch``).

    Facts: ``asgiven``, ``without``, ``with``, ``positions``, ``right`` (largest absolute difference to the row alone: as the inputs
    are, without a mask, with the mask that the padding asks for, with positions that skip it, with it on the right; ``None`` where not
    run), ``tolerance``, ``cause`` (what is wrong; empty where nothing is), ``moved`` (why padding on the left is: ``positions``, ``place``,
    ``both``; empty where that is not known), ``method`` (``call`` or ``generate``), ``rows``, ``padded`` (rows with padding),
    ``changed`` (rows whose answer changes), ``picture`` (row, text tokens, difference as given and
    put right, whether the answer changes), ``output`` (its name), ``side``, ``model``, ``inputs`` (the expressions), ``mask`` (an expression
    that gives the mask; empty where none does), ``argument`` (that the mask is passed as), ``given`` (whether the inputs hold a mask),
    ``unmasked`` (calls on these inputs in the person's cells that pass no mask: cell and source), ``masked`` (cells with calls
    that do), ``lost`` (whether such a call passes none that ``generate`` could not make itself), ``editable`` (whether such a call stands in a cell's source). Where all calls that it finds pass the mask, there
    is no finding.
    """

    name: ClassVar[str] = "padding"
    deep: ClassVar[bool] = True
    usage: ClassVar[str] = USAGE

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return Evidence(missing=f"say which model and inputs: `{USAGE}`")

    def ask(self, arguments: str, scene: Scene, *, generates: bool = False) -> Evidence:
        try:
            model, batch = named_inputs(arguments, scene)
            return measure(model, batch, *split(arguments), scene, generates=generates)
        except LookupError as error:
            return Evidence(missing=str(error.args[0]))
        except Exception as error:  # tensors of a dead device, and whatever a model of the person's own does
            return Evidence(missing=f"it could not be measured ({type(error).__name__}: {str(error)[:120]})")


def named_inputs(arguments: str, scene: Scene) -> tuple[Any, Batch]:
    """The model and the padded inputs that a person named (``"model batch"``); raises ``LookupError`` with one sentence."""
    torch: Any = scene.module("torch")
    model_name, inputs_name = split(arguments)
    if not model_name or not inputs_name:
        raise LookupError(f"say which model and inputs: `{USAGE}`")
    if torch is None or scene.cuda_dead:
        raise LookupError(
            "torch is not loaded" if torch is None else "CUDA is dead in this process: restart the kernel"
        )
    model, inputs = (named_value(scene.namespace, text) for text in (model_name, inputs_name))
    if not issubclass(type(model), torch.nn.Module):
        raise LookupError(f"`{model_name}` is no model but a {type(model).__name__}")
    return unwrapped(model), padded_batch(model, inputs, inputs_name, scene)


def unwrapped(model: Any) -> Any:
    """The model inside what ``torch.compile`` and the parallel wrappers make of it."""
    for _ in range(3):
        inner = model._modules.get("_orig_mod") or (
            model._modules.get("module") if type(model).__module__.startswith("torch.") else None
        )
        if inner is None:
            break
        model = inner
    return model


def measure(
    model: Any,
    batch: Batch,
    model_name: str,
    inputs_name: str,
    scene: Scene,
    observed: Calls = (),
    *,
    generates: bool = False,
    tokens: int = NEW_TOKENS,
    knows: bool = True,
    within: float = math.inf,
) -> Evidence:
    """The facts of :class:`PaddingProbe`; ``observed`` are calls (cell and source) that were seen while they ran.

    ``generates`` says that they were calls of ``generate`` (of so many ``tokens``, and told the padding token or not: ``knows``); where
    none was observed, the cells' source tells.
    Raises ``LookupError``, and ``TooSlow`` where the first run shows that the others would take more than ``within`` seconds.
    """
    torch: Any = scene.module("torch")
    if batch is None or (bool(batch.mask.all()) and (batch.decoder_mask is None or bool(batch.decoder_mask.all()))):
        return Evidence(missing=f"no row of `{inputs_name}` is padded: there is nothing that a mask could change")
    padding = padding_of(model, scene.namespace)
    infers = infers_mask(model, padding, knows=knows)
    calls = _calls(scene, Program(model_name, inputs_name, batch.holds_mask, infers))
    unmasked = tuple((label, call.source) for label, call in calls if call.masked is False)
    masked = tuple(dict.fromkeys(label for label, call in calls if call.masked))
    generates = generates or (not observed and bool(calls) and all(call.generates for _, call in calls))
    if generates and not hasattr(model, "generate"):
        raise Incomparable(f"`{model_name}` cannot generate")
    token = 0 if padding is None else padding.token
    if generates:
        seen = compare_generation(model, batch, torch, token, tokens, within, knows=knows)
    else:
        seen = compare_calls(model, batch, torch, within)
    subject = "without" if not observed and not seen.wrong() and seen.worst("without") is not None else "given"
    encodes = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
    cause = _cause(seen, subject, batch, goes_on=generates and not encodes)
    worst = max(seen.rows, key=lambda row: row.differences[subject], default=None)
    moved = POSITIONS if cause == "positions" else ""
    if cause == "side" and worst is not None:
        moved = what_moved(model, batch, worst.number, torch)
    facts = {
        **{key: seen.worst(key) for key in ("with", "positions", "right")},
        "asgiven": seen.worst("given"),
        "without": seen.worst("without") if seen.worst("without") is not None else seen.worst("given"),
        "tolerance": seen.tolerance,
        "cause": cause,
        "moved": moved,
        "method": "generate" if generates else "call",
        "changed": tuple(
            row.number
            for row in seen.rows
            if row.answers.get(subject) is not None
            and row.answers[subject] != row.answers["alone"]
            and row.differences[subject] > seen.tolerance
        ),
        "picture": tuple(
            (
                row.number,
                row.tokens,
                row.differences[subject],
                row.differences[REMEDIES.get(cause, "with")],
                row.answers.get(subject) != row.answers["alone"],
            )
            for row in seen.rows
        ),
        "output": seen.output,
        "rows": len(batch.mask),
        "padded": int((batch.mask == 0).any(dim=1).sum()),
        "side": batch.side,
        "model": model_name,
        "inputs": inputs_name,
        "mask": batch.expression,
        "argument": _argument(batch),
        "given": batch.holds_mask,
        "model_class": type(model).__name__,
        "unmasked": shown(observed or unmasked),
        "masked": masked,
        "lost": not infers and any("mask" in call.edits for _, call in calls),
        "editable": any(
            cause in call.edits and (not observed or any(call.source in place for _, place in observed))
            for _, call in calls
        ),
    }
    calls_show = bool(facts["unmasked"]) or not masked or subject == "given"
    finding = Failure.from_finding("padding", CAUSES[cause], facts) if cause and calls_show else None
    return Evidence(MappingProxyType(facts), _observations(facts), finding=finding)


def shown(calls: Calls) -> Calls:
    """The calls as they are shown: without the spaces that line breaks left behind brackets, and cut where they are long."""
    tidy = ((label, re.sub(r"(?<=[(\[{]) | (?=[)\]}])", "", source)) for label, source in calls)
    return tuple((label, source if len(source) <= SHOWN else f"{source[: SHOWN - 1]}…") for label, source in tidy)


def _argument(batch: Batch) -> str:
    """The mask that is lacking."""
    lacks = batch.decoder_mask is not None and "decoder_attention_mask" not in batch.given
    whole = bool(batch.mask.all()) or (is_mask(batch.given.get("attention_mask"), batch.ids) and not batch.contradicted)
    return "decoder_attention_mask" if lacks and whole else "attention_mask"


def _cause(seen: Comparison, subject: str, batch: Batch, *, goes_on: bool) -> str:
    """What makes the rows differ: that which, put right, makes them agree; empty where they agree or nothing explains it.

    ``goes_on``: a decoder-only model generated from the rows' last places.
    """
    worst = seen.worst(subject) or 0.0
    if worst <= seen.tolerance:
        return ""

    def cured(variant: str) -> bool:
        left = seen.worst(variant)
        return left is not None and left <= seen.tolerance and left * 4 < worst

    if cured("with"):
        if goes_on and batch.side != "left":
            return "generation"
        lacks = subject == "without" or "attention_mask" not in batch.given or _argument(batch) != "attention_mask"
        return "mask" if lacks else "contradicted"
    for variant, cause in (("positions", "positions"), ("right", "side")):
        if cured(variant):
            return cause
    lacks = subject == "without" or "attention_mask" not in batch.given
    reads = (abs(row.differences["with"] - row.differences[subject]) > seen.tolerance for row in seen.rows)
    return "mask" if lacks and any(reads) else ""  # FNet reads no mask, and generate may have made the same one


def split(arguments: str) -> tuple[str, str]:
    """The model's and the inputs' expression of what stands behind ``%tfdiag probe padding``."""
    model, _, inputs = arguments.strip().partition(" ")
    return model, inputs.strip()


def _calls(scene: Scene, program: Program) -> list[tuple[str, ModelCall]]:
    """Calls of the model on these inputs in the cells that were run, with the cell.

    A call without a mask after which one of the names was bound anew was on something else.
    """
    names = {re.split(r"[.\[]", text)[0] for text in (program.model, program.inputs)}
    found: list[tuple[str, ModelCall]] = []
    rebound = False
    for cell in reversed(newest_versions(scene.cells)):
        last = max((line for name, line in lines_bound(cell.source) if name in names), default=0)
        here = [
            (cell.label, call)
            for call in calls_on(cell.source, program)
            if call.masked is not False or (not rebound and call.line > last)
        ]
        found = [*here, *found]
        rebound = rebound or last > 0
    return found


def padded_batch(model: Any, inputs: Any, name: str, scene: Scene) -> Batch:
    """The padded inputs and their mask; raises ``LookupError`` with one sentence when there are none."""
    torch: Any = scene.module("torch")
    fields = inputs if isinstance(inputs, Mapping) else getattr(inputs, "data", None)
    held: dict[str, Any] = dict(fields) if isinstance(fields, Mapping) else {"input_ids": inputs}
    ids = held.get("input_ids")
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.is_floating_point():
        told = f"`{name}` holds no `input_ids` of shape (rows, length)"
        raise LookupError(f'{told}: ask the tokenizer for `return_tensors="pt"`')
    others = [key for key in extra(held) if key in _parameters(model)]
    if others:
        raise LookupError(f"`{name}` holds {_listed(others)}, too: only token ids can be given again row by row")
    device = next((parameter.device for parameter in model.parameters()), ids.device)
    if "meta" in (device.type, ids.device.type):
        raise LookupError("the model or its inputs are on the meta device: there are no numbers to compare")
    if not ids.numel():
        raise LookupError(f"`{name}` holds no rows")
    if int(ids.min()) < 0:
        raise LookupError(f"`{name}` holds the id {int(ids.min())}: that is no token (-100 belongs into labels only)")
    takes = _parameters(model)
    given = {
        key: held[key].to(device)
        for key in ARGUMENTS
        if isinstance(held.get(key), torch.Tensor) and (key in takes or key in ("input_ids", "attention_mask"))
    }
    padding = padding_of(model, scene.namespace)
    if padding is None and not is_mask(given.get("attention_mask"), given["input_ids"]):
        raise LookupError(f"`{name}` has no mask, and neither the model nor the tokenizer says which token is padding")
    batch = batch_of(unwrapped(model), given, padding, asked=True)
    if batch is None:
        raise LookupError(f"no row of `{name}` is padded: there is nothing that a mask could change")
    return described(batch, name, isinstance(fields, Mapping), given.get("attention_mask"), padding)


def described(batch: Batch, name: str, mapping: bool, beside: Any, padding: Padding | None) -> Batch:
    """The batch with the expression that gives its mask in the person's program.

    ``name`` is what they call the inputs, ``beside`` the mask that these hold, if they are a mapping.
    """
    holds = mapping and is_mask(beside, batch.ids)
    if holds and gives(beside, batch):
        return replace(batch, expression=f'{name}["attention_mask"]', holds_mask=True)
    expression = f'{name}["input_ids"]' if mapping else name
    plain = padding is not None and " " not in name and bool(((batch.ids != padding.token).long() == batch.mask).all())
    return replace(
        batch,
        expression=f"({expression} != {padding.token}).long()" if plain and padding is not None else "",
        holds_mask=holds,
    )


def gives(mask: Any, batch: Batch) -> bool:
    """Whether a mask of the person's is the one that the padding asks for."""
    return is_mask(mask, batch.ids) and bool(((mask != 0).to(batch.mask.device) == (batch.mask != 0)).all())


def _parameters(model: Any) -> list[str]:
    import inspect

    return list(inspect.signature(unwrapped(model).forward).parameters)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def picture(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    """A bar for each padded row: how far it is from the same row alone, as it was run and with the mask."""
    most = max((row[2] for row in facts["picture"]), default=0.0)
    rows = []
    for number, tokens, given, cured, changed in facts["picture"]:
        wrong = given > facts["tolerance"]
        put_right = f"; put right {cured:.2g}" if cured > facts["tolerance"] else ""
        told = f"{size(given, facts)}{put_right}{'; another answer' if changed and wrong else ''}"
        share = given / most if wrong and most else 0.0
        rows.append(Observation(f"row {number}, {_tokens(tokens)}", told, "against the row alone", share))
    return tuple(rows[:8])


def size(difference: float, facts: Mapping[str, Any]) -> str:
    """A difference in words: its digits say nothing where it is rounding, and are others on another machine."""
    return "rounding" if difference <= facts["tolerance"] else f"{difference:.2g}"


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    where = f"{facts['output']} of {facts['model_class']}, at real tokens"
    changed = ", ".join(map(str, facts["changed"])) or "none"
    wrong = max(facts["without"], facts["asgiven"]) > facts["tolerance"]
    answer = (
        "the padding changes the outputs" if wrong else "the padding changes nothing here: all differences are rounding"
    )
    unmasked = ", ".join(f"`{source}` in {label}" for label, source in facts["unmasked"])
    masked = f"{', '.join(facts['masked'])}: with the mask" if facts["masked"] else "none was found"
    return (
        Observation(
            "calls in your cells", f"without the mask: {unmasked}" if unmasked else masked, "the cells' source"
        ),
        Observation("without a mask", answer, f"{facts['model']} on {facts['inputs']}"),
        Observation("largest difference without the mask", size(facts["without"], facts), where),
        Observation("largest difference with the mask", size(facts["with"], facts), where),
        Observation("differences that are rounding", f"up to {facts['tolerance']:.1g}", "the dtype"),
        Observation(
            "numbers of the rows that change their answer",
            changed,
            f"{facts['rows']} rows, {facts['padded']} padded {placed(facts['side'])}",
        ),
    )
