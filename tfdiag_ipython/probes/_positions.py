"""How many tokens a model has positions for, and how many the failing call asked of it.

Source: the embeddings of transformers 4.57 and 5.23. RoBERTa and its relatives begin to count behind the padding's index, BART and OPT keep
their first rows back (``offset``), YOSO and Nyströmformer have two rows more than their configuration says and than they use; ProphetNet
stops counting at the end and takes any length. Longformer and LED lengthen the ids that they are given, so those of the model's own call count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfdiag_ipython.probe import LiveFrame

NAMES = frozenset({"position_embeddings", "position_embedding", "positions_embed", "wpe", "embed_positions"})
"""What transformers calls the embedding of positions in its modules."""
_CLAMPED = frozenset({"ProphetNetPositionalEmbeddings"})
_SAID = ("max_position_embeddings", "max_seq_len")


@dataclass(frozen=True)
class ModuleCall:
    """A call of a module in the traceback, with the argument that holds one entry per token and how many those are."""

    module: Any
    length: int
    given: frozenset[str]


def learned(module: Any, torch: Any) -> int:
    """The tokens that learned positions are for; 0 where positions are computed, and any length can be run."""
    found = []
    for name, inner in module.named_modules():
        if name.rpartition(".")[2] not in NAMES or type(inner).__name__ in _CLAMPED:
            continue
        weight = vars(inner).get("_parameters", {}).get("weight")
        if weight is None or isinstance(inner, torch.nn.Linear) or torch.nn.parameter.is_lazy(weight):
            continue
        if weight.dim() != 2:
            continue
        kept, padding = vars(inner).get("offset"), vars(inner).get("padding_idx")
        found.append(int(weight.shape[0]) - (kept if is_count(kept) else 0 if padding is None else padding + 1))
    if not found:
        return 0
    said = said_by(module)
    return min(*found, said) if said else min(found)


def said_by(module: Any) -> int:
    """The number of positions that a model's configuration says; 0 where it says none."""
    config = vars(module).get("config")
    if not any(base.__module__.startswith("transformers.") for base in type(config).__mro__):
        return 0
    said: list[Any] = [getattr(config, name, None) for name in _SAID]
    return next((int(value) for value in said if is_count(value)), 0)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def asked(frames: list[LiveFrame], model: Any, torch: Any) -> dict[str, Any]:
    """What the failing call asked of a model with a number of positions; empty where that is not known.

    ``length`` (tokens of a row), ``most`` (positions that they may take), ``learned``, and ``argument``: what the tokens were given as
    (``input_ids``, ``inputs_embeds``, ``decoder_input_ids``, ``labels``, or ``generate``, which goes on from ``prompt`` tokens).
    """
    calls = list(_calls(frames, torch))
    most, place = next(
        ((most, place) for place, call in enumerate(calls) if (most := learned(call.module, torch))), (0, 0)
    )
    found = next((call for call in calls[place:] if _is_model(call.module)), None)
    if found is None:
        return {}
    facts = {
        "learned": bool(most),
        "most": most or said_by(found.module),
        "length": found.length,
        "argument": "input_ids",
    }
    if "input_ids" not in found.given and "inputs_embeds" in found.given:
        facts["argument"] = "inputs_embeds"
    if _decodes(found.module, model):
        labels = "labels" in calls[-1].given and "decoder_input_ids" not in calls[-1].given
        facts["argument"] = "labels" if labels else "decoder_input_ids"
    return facts | _generation(frames, facts) if facts["most"] else {}


def _calls(frames: list[LiveFrame], torch: Any) -> Iterator[ModuleCall]:
    """Calls of modules with token ids or their vectors, the innermost first, as they were made."""
    for frame in reversed(frames):
        if frame.function != "_call_impl":
            continue
        module, args, kwargs = (frame.locals.get(name) for name in ("self", "args", "kwargs"))
        if not issubclass(type(module), torch.nn.Module) or type(args) is not tuple or type(kwargs) is not dict:
            continue
        ids: Any = kwargs.get("input_ids", args[0] if args else None)
        vectors: Any = kwargs.get("inputs_embeds")
        given = frozenset(name for name, value in kwargs.items() if value is not None)
        if type(ids) is torch.Tensor and ids.dim() == 2 and not ids.is_floating_point():
            yield ModuleCall(module, int(ids.shape[1]), given | {"input_ids"})
        elif issubclass(type(vectors), torch.Tensor) and vectors.dim() == 3:
            yield ModuleCall(module, int(vectors.shape[1]), given)


def _is_model(module: Any) -> bool:
    return any(base.__name__ == "PreTrainedModel" for base in type(module).__mro__)


def _decodes(module: Any, model: Any) -> bool:
    """Whether it is the decoder of an encoder-decoder, or a part of that."""
    if model is None or not getattr(vars(model).get("config"), "is_encoder_decoder", False):
        return False
    path = next((name for name, inner in model.named_modules() if inner is module), "")
    return "decoder" in path.split(".")


def _generation(frames: list[LiveFrame], facts: dict[str, Any]) -> dict[str, Any]:
    """How far ``generate`` was to go, where what it began with still fitted."""
    for frame in frames:
        if frame.function != "generate" or not frame.file.replace("\\", "/").endswith("generation/utils.py"):
            continue
        prompt, settings = frame.locals.get("input_ids_length"), frame.locals.get("generation_config")
        end = vars(settings).get("max_length") if settings is not None else None
        if is_count(prompt) and is_count(end) and facts["length"] <= facts["most"] < end:
            return {"argument": "generate", "prompt": prompt, "length": end}
    return {}
