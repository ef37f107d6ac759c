"""Does a model's output depend on a missing attention mask? Measured: with the mask, without it, and row by row without padding.

The row alone is the truth: it has no padding that could be read. Differences are taken at real tokens only. The model runs in eval mode,
without gradients; training flags and the random state are put back.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.cells import newest_versions
from tfdiag_ipython.fixes.model_calls import Program, calls_on
from tfdiag_ipython.fixes.source import lines_bound
from tfdiag_ipython.probe import Evidence, Probe, Scene

USAGE = "%tfdiag probe padding MODEL INPUTS"
SENTENCE = "The outputs at real tokens change without an attention mask."
MOST_ROWS = 16
"""Rows that are run alone: each costs a forward pass."""


class PaddingProbe(Probe):
    """Compares a model's outputs on padded inputs; both are named by the person (``%tfdiag probe padding model batch``).

    Facts: ``without`` and ``with`` (largest absolute difference to the row alone, without and with the mask), ``tolerance``, ``rows``,
    ``padded`` (rows with padding), ``changed`` (rows whose answer changes without the mask), ``output`` (its name), ``side``, ``model``,
    ``inputs`` (the expressions), ``mask`` (an expression that gives the mask), ``given`` (whether the inputs hold a mask),
    ``unmasked`` (calls on these inputs in the person's cells that pass no mask: cell and source), ``masked`` (cells with calls
    that do), ``editable`` (whether such a call stands in a cell's source). Where all calls that it finds pass the mask, there
    is no finding.
    """

    name: ClassVar[str] = "padding"
    deep: ClassVar[bool] = True
    usage: ClassVar[str] = USAGE

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return Evidence(missing=f"say which model and inputs: `{USAGE}`")

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        try:
            model, batch = named_inputs(arguments, scene)
        except LookupError as error:
            return Evidence(missing=str(error.args[0]))
        return measure(model, batch, *split(arguments), scene)


@dataclass(frozen=True)
class Batch:
    """Padded inputs: ids and mask of shape ``(rows, length)``, and an expression for the mask in the person's program."""

    ids: Any
    mask: Any
    expression: str
    given: bool


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
    model, inputs = (_named(scene.namespace, text) for text in (model_name, inputs_name))
    if not issubclass(type(model), torch.nn.Module):
        raise LookupError(f"`{model_name}` is no model but a {type(model).__name__}")
    return model, padded_batch(model, inputs, inputs_name, scene)


def measure(
    model: Any,
    batch: Batch,
    model_name: str,
    inputs_name: str,
    scene: Scene,
    observed: tuple[tuple[str, str], ...] = (),
) -> Evidence:
    """The facts of :class:`PaddingProbe`; ``observed`` are calls (cell and source) that were seen to pass no mask while they ran."""
    torch: Any = scene.module("torch")
    rows, padded = int(batch.ids.shape[0]), int((batch.mask == 0).any(dim=1).sum())
    if not padded:
        return Evidence(missing=f"no row of `{inputs_name}` is padded: there is nothing that a mask could change")
    with _quiet(model, torch):
        facts = compare(model, batch, torch)
    unmasked, masked = _calls(scene, Program(model_name, inputs_name, batch.given))
    facts |= {
        "rows": rows,
        "padded": padded,
        "side": _side(batch.mask),
        "model": model_name,
        "inputs": inputs_name,
        "mask": batch.expression,
        "given": batch.given,
        "model_class": type(model).__name__,
        "unmasked": observed or unmasked,
        "masked": masked,
        "editable": any(call in place for _, call in unmasked for _, place in observed or unmasked),
    }
    wrong = facts["without"] > facts["tolerance"] and (facts["unmasked"] or not masked)
    finding = Failure.from_finding("padding", SENTENCE, facts) if wrong else None
    return Evidence(MappingProxyType(facts), _observations(facts), finding=finding)


def split(arguments: str) -> tuple[str, str]:
    """The model's and the inputs' expression of what stands behind ``%tfdiag probe padding``."""
    model, _, inputs = arguments.strip().partition(" ")
    return model, inputs.strip()


def _calls(scene: Scene, program: Program) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Calls of the model on these inputs in the cells that were run: without a mask (cell, source) and with one (cell).

    A call after which one of the names was bound anew was on something else.
    """
    names = {re.split(r"[.\[]", text)[0] for text in (program.model, program.inputs)}
    unmasked: list[tuple[str, str]] = []
    masked: list[str] = []
    rebound = False
    for cell in reversed(newest_versions(scene.cells)):
        last = max((line for name, line in lines_bound(cell.source) if name in names), default=0)
        for call in calls_on(cell.source, program):
            if call.masked:
                masked.insert(0, cell.label)
            elif call.masked is False and not rebound and call.line > last:
                unmasked.insert(0, (cell.label, call.source))
        rebound = rebound or last > 0
    return tuple(unmasked), tuple(dict.fromkeys(masked))


def compare(model: Any, batch: Batch, torch: Any) -> dict[str, Any]:
    """Largest differences to each row alone, with and without the mask, and the rows whose answer changes without it."""
    with_mask, name = _output(model, batch.ids, batch.mask)
    without, _ = _output(model, batch.ids, None)
    worst = {"with": 0.0, "without": 0.0}
    changed: list[int] = []
    for row in range(min(int(batch.ids.shape[0]), MOST_ROWS)):
        real = batch.mask[row].bool()
        alone, _ = _output(model, batch.ids[row][real][None], None)
        truth = alone[0].float()
        for key, output in (("with", with_mask), ("without", without)):
            seen = output[row].float()
            seen = (
                seen[real.to(seen.device)]
                if seen.dim() == truth.dim() == 2 and seen.shape[0] == real.shape[0]
                else seen
            )
            worst[key] = max(worst[key], float((seen - truth).abs().max()))
            if key == "without" and _answer(seen) != _answer(truth):
                changed.append(row)
    scale = max(1.0, float(with_mask.float().abs().max()))
    tolerance = 64 * torch.finfo(with_mask.dtype).eps * scale
    return {**worst, "tolerance": tolerance, "changed": tuple(changed), "output": name}


def _output(model: Any, ids: Any, mask: Any) -> tuple[Any, str]:
    """The outputs to compare, and their name; of an encoder-decoder model the encoder's."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        model = model.get_encoder()
    result = model(input_ids=ids) if mask is None else model(input_ids=ids, attention_mask=mask)
    for name in ("logits", "last_hidden_state", "prediction_logits"):
        value = getattr(result, name, None)
        if value is not None:
            return value, name
    return result[0], "the first output"


def _answer(output: Any) -> int:
    """What the output says: the class of a row, or the token that the last real position predicts."""
    last = output[-1] if output.dim() > 1 else output
    return int(last.argmax())


def padded_batch(model: Any, inputs: Any, name: str, scene: Scene) -> Batch:
    """The padded ids and their mask; raises ``LookupError`` with one sentence when there are none."""
    torch: Any = scene.module("torch")
    fields = inputs if isinstance(inputs, Mapping) else getattr(inputs, "data", None)
    ids = fields.get("input_ids") if isinstance(fields, Mapping) else inputs
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.is_floating_point():
        told = f"`{name}` holds no `input_ids` of shape (rows, length)"
        raise LookupError(f'{told}: ask the tokenizer for `return_tensors="pt"`')
    device = next((parameter.device for parameter in model.parameters()), ids.device)
    ids = ids.to(device)
    mask = fields.get("attention_mask") if isinstance(fields, Mapping) else None
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        return Batch(ids, mask.to(device), f'{name}["attention_mask"]', True)
    padding = _padding_id(model, scene)
    if padding is None:
        raise LookupError(f"`{name}` has no mask, and neither the model nor the tokenizer says which token is padding")
    expression = f'{name}["input_ids"]' if isinstance(fields, Mapping) else name
    return Batch(ids, (ids != padding).long(), f"({expression} != {padding}).long()", False)


def _padding_id(model: Any, scene: Scene) -> int | None:
    found = getattr(getattr(model, "config", None), "pad_token_id", None)
    if isinstance(found, int):
        return found
    for value in list(scene.namespace.values()):
        if any(base.__name__ == "PreTrainedTokenizerBase" for base in type(value).__mro__):
            return value.pad_token_id if isinstance(value.pad_token_id, int) else None
    return None


def _side(mask: Any) -> str:
    left, right = bool((mask[:, 0] == 0).any()), bool((mask[:, -1] == 0).any())
    return "both sides" if left and right else "left" if left else "right"


@contextlib.contextmanager
def _quiet(model: Any, torch: Any) -> Iterator[None]:
    """Eval mode without gradients; every module's training flag and the random state are put back."""
    flags = [(module, module.training) for module in model.modules()]
    state = torch.get_rng_state()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:
            module.training = training
        torch.set_rng_state(state)


def _named(namespace: Mapping[str, Any], text: str) -> Any:
    """The value of a name, attribute or item (``batch["ids"]``, ``trainer.model``); nothing is called."""
    try:
        return _value(ast.parse(text, mode="eval").body, namespace)
    except SyntaxError:
        raise LookupError(f"`{text}` is no name of a variable: `{USAGE}`") from None
    except Exception as error:
        raise LookupError(f"`{text}` cannot be read ({type(error).__name__}): `{USAGE}`") from None


def _value(node: ast.expr, namespace: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, namespace), node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return _value(node.value, namespace)[node.slice.value]
    raise SyntaxError("only names, attributes and items")


def _observations(facts: Mapping[str, Any]) -> tuple[Observation, ...]:
    where = f"{facts['output']} of {facts['model_class']}, at real tokens"
    changed = ", ".join(map(str, facts["changed"])) or "none"
    wrong = facts["without"] > facts["tolerance"]
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
        Observation("largest difference without the mask", f"{facts['without']:.2g}", where),
        Observation("largest difference with the mask", f"{facts['with']:.2g}", where),
        Observation("differences that are rounding", f"up to {facts['tolerance']:.1g}", "the dtype"),
        Observation(
            "rows that change their answer",
            changed,
            f"{facts['rows']} rows, {facts['padded']} padded on the {facts['side']}",
        ),
    )
