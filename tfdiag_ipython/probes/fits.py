"""What batch fits: the largest one that a step of this model has memory for, predicted and then tried."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fix import Cancelled, Progress
from tfdiag_ipython.fixes.memory import clear_traceback
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes.batch_rows import KINDS, a
from tfdiag_ipython.probes.batch_search import SMALL, Trial
from tfdiag_ipython.probes.batch_trials import MOST_ROWS, Fit, find_fit
from tfdiag_ipython.probes.memory_refusals import words
from tfdiag_ipython.probes.named_values import named_value
from tfdiag_ipython.probes.training_step import Work, device_of, reading, tensors_in
from tfdiag_ipython.sizes import memory_size

USAGE = (
    "%tfdiag probe fits MODEL INPUTS [--optimizer NAME] [--no-grad] [--accumulate] [--autocast DTYPE] [--memory SIZE] "
    "[--at-most ROWS] [--rows-along DIMENSION]"
)
_FLAGS = ("--no-grad", "--accumulate")
_VALUES = ("--optimizer", "--autocast", "--memory", "--at-most", "--rows-along")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", re.IGNORECASE)
LEAST_MEMORY = 2**20
"""Bytes below which a size has lost its unit."""


class FitsProbe(Probe):
    """The largest batch that a step has memory for: ``%tfdiag probe fits model batch --optimizer optimizer``.

    ``INPUTS`` are a batch or a single example, whose rows are repeated. ``--optimizer`` names an optimizer of the notebook, or a
    class of one (``torch.optim.AdamW``), whose step belongs to the trial; ``--no-grad`` tries inference; ``--accumulate`` keeps
    gradients of an earlier batch in memory. Facts: ``rows`` (the largest that ran), ``predicted``, ``room``, ``held``, ``peak``
    (bytes), ``limit``, ``trials`` (rows, peak, what refused it), ``failed`` (rows and first words of an error that is no refusal and
    ended the search; else ``None``). Weights, buffers, gradients, optimizer state and random state are put back; hooks of the person's
    own run in each step, and a note says so.
    """

    name: ClassVar[str] = "fits"
    deep: ClassVar[bool] = True
    usage: ClassVar[str] = USAGE

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        return Evidence(missing=f"say which model and inputs: `{USAGE}`")

    def ask(self, arguments: str, scene: Scene) -> Evidence:
        fit: Fit | None = None
        names = ("", "")
        try:
            asked = parse(arguments)
            names = (asked.model, asked.inputs)
            fit = _find(asked, scene)
        except LookupError as error:
            return Evidence(missing=str(error.args[0]))
        except KeyboardInterrupt as error:
            clear_traceback(error)
        if fit is None:
            raise Cancelled(
                "You stopped it; the model, its gradients, the optimizer and the random state are as they were."
            )
        return Evidence(MappingProxyType(_facts(fit)), _observations(fit, *names))


@dataclass(frozen=True)
class Asked:
    """What stands behind ``%tfdiag probe fits``."""

    model: str
    inputs: str
    options: Mapping[str, str]


def parse(arguments: str) -> Asked:
    """Raises ``LookupError``, with one sentence, for what is no such line."""
    names: list[str] = []
    options: dict[str, str] = {}
    waiting = iter(arguments.split())
    for word in waiting:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name in _FLAGS and not equals:
            options[name] = name
        elif name in _VALUES:
            options[name] = value if equals else next(waiting, "")
            if not options[name]:
                raise LookupError(f"{name} takes a value: `{USAGE}`")
        elif word.startswith("--"):
            raise LookupError(f"there is no option {word}: `{USAGE}`")
        else:
            names.append(word)
    if len(names) != 2:
        left = f" (`{names[2]}` is left over)" if len(names) > 2 else ""
        raise LookupError(f"say which model and inputs{left}: `{USAGE}`")
    return Asked(names[0], names[1], options)


def _find(asked: Asked, scene: Scene) -> Fit:
    torch: Any = scene.module("torch")
    if torch is None:
        raise LookupError("torch is not loaded")
    model, inputs = (named_value(scene.namespace, text) for text in (asked.model, asked.inputs))
    if not issubclass(type(model), torch.nn.Module):
        inner = None
        with contextlib.suppress(Exception):
            inner = model.model
        hint = f": name `{asked.model}.model`" if issubclass(type(inner), torch.nn.Module) else ": name one"
        raise LookupError(f"`{asked.model}` is no model but {a(type(model).__name__)}{hint}")
    with reading(f"`{asked.model}`", "its parameters, buffers and modules have to be readable"):
        device = device_of(torch, model)
    if scene.cuda_dead and _on_cuda(torch, device, inputs):
        raise LookupError("CUDA is dead in this process: restart the kernel")
    options = asked.options
    gradients = "--no-grad" not in options
    if not gradients and len({"--optimizer", "--accumulate"} & options.keys()):
        raise LookupError("--no-grad tries inference, in which nothing is optimized or accumulated")
    optimizer = None
    if "--optimizer" in options:
        name = options["--optimizer"]
        with reading(f"`{name}`", "name an optimizer of the notebook, or a class of one"):
            optimizer = optimizer_named(torch, model, name, scene)
    work = Work(
        gradients=gradients,
        optimizer=optimizer,
        accumulate="--accumulate" in options,
        autocast=_dtype(torch, options["--autocast"]) if "--autocast" in options else None,
    )
    return find_fit(
        torch,
        model,
        inputs,
        work,
        memory=_size(options["--memory"]) if "--memory" in options else None,
        most=_whole(options, "--at-most", SMALL[-1]) or MOST_ROWS,
        dimension=_whole(options, "--rows-along", 0),
        tell=(scene.progress or Progress()).report,
    )


def optimizer_named(torch: Any, model: Any, text: str, scene: Scene) -> Any:
    """The person's optimizer, or a new one of the class that they name with its own settings."""
    value = named_value({"torch": torch, **scene.namespace}, text)
    trained = [one for one in model.parameters() if one.requires_grad]
    if not trained:
        raise LookupError("no parameter of the model is trained (`requires_grad`): leave `--optimizer` out")
    if issubclass(type(value), type) and issubclass(value, torch.optim.Optimizer):
        told = ""
        try:
            return value(trained)
        except Exception as error:
            told = words(error)
        raise LookupError(f"`{text}` cannot be made with its own settings ({told}): make one in a cell, and name that")
    if not issubclass(type(value), torch.optim.Optimizer):
        raise LookupError(f"`{text}` is no optimizer but {a(type(value).__name__)}")
    own = {id(one) for one in model.parameters()}
    if not any(id(one) in own for group in value.param_groups for one in group["params"]):
        raise LookupError(f"`{text}` optimizes none of the model's parameters")
    return value


def _on_cuda(torch: Any, device: Any, inputs: Any) -> bool:
    """Whether the model or what it is to be given lies on a GPU."""
    with reading("the inputs", f"name {KINDS}"):
        return "cuda" in {device.type, *(one.device.type for one in tensors_in(torch, inputs))}


def _dtype(torch: Any, text: str) -> Any:
    found = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(text) or getattr(
        torch, text.removeprefix("torch."), None
    )
    if found not in (torch.bfloat16, torch.float16):
        raise LookupError(f"--autocast takes bfloat16 or float16, not {text}")
    return found


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise LookupError(f"--memory takes a size such as 8GiB, not {text}")
    power = " KMGT".index(found[2].upper() or " ")
    size = int(float(found[1]) * (1024 if found[3] or not power else 1000) ** power)
    if size < LEAST_MEMORY:
        raise LookupError(f"--memory takes a size such as 8GiB, and {text} is {memory_size(size)}")
    return size


def _whole(options: Mapping[str, str], name: str, least: int) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    number = text.replace(",", "").replace("_", "")
    if not number.isdigit() or int(number) < least:
        raise LookupError(f"{name} takes a whole number from {least} on, not {text}")
    return int(number)


def _facts(fit: Fit) -> dict[str, Any]:
    return {
        "rows": fit.rows,
        "predicted": fit.predicted,
        "room": fit.room,
        "limit": fit.limit,
        "held": fit.held,
        "peak": fit.peak,
        "failed": fit.failed,
        "work": fit.work,
        "trials": tuple((trial.rows, trial.peak, trial.refused) for trial in fit.trials),
    }


def _observations(fit: Fit, model: str, inputs: str) -> tuple[Observation, ...]:
    first = _rows(fit.rows) if fit.rows else "not even one row"
    small = " and ".join(f"{trial.rows}" for trial in fit.small)
    failed = (
        [Observation(f"trial {len(fit.trials) + 1}: {_rows(fit.failed[0])}", "failed", fit.failed[1])]
        if fit.failed
        else []
    )
    return (
        Observation("largest batch", f"at least {first}" if failed else first, f"`{model}` on `{inputs}`: {fit.work}"),
        Observation("a row", fit.row, f"`{inputs}`"),
        Observation("held before a step", memory_size(fit.held), "parameters, buffers, gradients, optimizer state"),
        Observation("room for a step", memory_size(fit.room), fit.limit),
        Observation("predicted", _rows(fit.predicted), f"measured steps of {small} rows"),
        *(
            Observation(f"trial {number}: {_rows(trial.rows)}", _told(trial), trial.refused)
            for number, trial in enumerate(fit.trials, 1)
        ),
        *failed,
        *(Observation("refused", _rows(trial.rows), trial.refused) for trial in fit.small if trial.refused),
        *(Observation("note", note) for note in fit.notes),
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _told(trial: Trial) -> str:
    return "refused" if trial.refused else f"ran, and took {memory_size(trial.peak)}"
