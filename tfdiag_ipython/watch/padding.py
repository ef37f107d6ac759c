"""Calls of Transformers models whose ids are padded and whose masks do not say so, while a cell runs."""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

from tfdiag_ipython.failure import CELL_FILE, Failure
from tfdiag_ipython.fixes.model_calls import inputs_written
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.own_hooks import has_own_hooks
from tfdiag_ipython.probes.padding import described, gives, measure, unwrapped
from tfdiag_ipython.probes.padding_batch import ARGUMENTS, Batch, Padding, batch_of, extra, is_mask, padding_of
from tfdiag_ipython.probes.padding_runs import NEW_TOKENS, TooSlow
from tfdiag_ipython.watch.imports import after_import
from tfdiag_ipython.watch.model_calls import by_name, calls_of

SUSPECTED = {
    "mask": "A call passes padded ids and no attention mask.",
    "contradicted": "A call passes padded ids and a mask that does not say so.",
    "generation": "A decoder-only model was asked to go on from rows that end in padding.",
}
"""What is said where nothing was measured."""
MOST = 8
"""Calls kept of one cell and line."""
WATCHED = {
    "transformers.modeling_utils": "PreTrainedModel",
    "transformers.generation.utils": "GenerationMixin",
    "torch._dynamo.eval_frame": "OptimizedModule",  # what `torch.compile` makes of a model; its calls go past the model's own
}
"""Classes whose calls are seen, by module."""
LOOKS = 200
"""Calls of one model that are looked at closely: a long training loop shows in its first calls what it does."""
COMPARED = 100
"""Calls of one model with a mask that are compared with the padding; after that every fourth, which keeps the price of a call down."""
WARNINGS = re.compile(
    r"input_ids may be padded|right-padding was detected|attention mask (?:and the pad token id were|is) not set"
)
"""What the library itself says of calls that are measured here."""
IGNORED = {
    "__call__": (),
    "generate": (
        "inputs",
        "generation_config",
        "logits_processor",
        "stopping_criteria",
        "prefix_allowed_tokens_fn",
        "streamer",
        "tokenizer",
    ),
}
"""Arguments that are not needed to measure."""


@dataclass
class Call:
    """A call whose padding looks unmasked. The model is not kept alive; the arguments are, until the cell has ended."""

    model: weakref.ref[Any]
    method: str
    given: Mapping[str, Any]
    source: str
    tokens: int
    seconds: float = field(default=float("inf"))


class PaddingWatch:
    """Takes note of the outermost calls of Transformers models; measures the suspicious ones when the cell has ended.

    What no measurement confirms is not reported, unless measuring would take too long; then it is said to be suspected where the
    kind of model leaves little doubt. Ids in device memory are not read before the cell has ended: reading them waits for the device.
    ``every`` takes note of all calls, suspicious or not, for a caller that measures them itself.
    """

    watched = "unmasked padding"

    def __init__(self, *, every: bool = False) -> None:
        self._every = every
        self._calls: dict[tuple[int, str, str], list[Call]] = {}
        self._pads: dict[int, int | None] = {}
        self._looks: dict[int, int] = {}
        self._masked: dict[int, int] = {}
        self._measured = 0
        self._depth = threading.local()  # generate calls the model
        self._undo = contextlib.ExitStack()

    def start(self) -> None:
        for name, kind in WATCHED.items():
            self._undo.enter_context(after_import(name, partial(self._watch, kind)))

    def _watch(self, name: str, module: ModuleType) -> None:
        kind, method = getattr(module, name), "generate" if name == "GenerationMixin" else "__call__"
        see = self._see_compiled if name == "OptimizedModule" else partial(self._see, method)
        self._undo.enter_context(calls_of(kind, see, method, self._depth))

    def stop(self, scene: Scene) -> list[Failure]:
        calls = self.calls()
        if not scene.live or scene.cuda_dead:
            return []
        found: dict[str, Failure] = {}
        for call in calls:
            if call.source not in found:
                with contextlib.suppress(Exception):  # what cannot be measured is not said
                    finding = self._finding(call, scene)
                    found.update({call.source: finding} if finding is not None else {})
        return list(found.values())

    def calls(self) -> list[Call]:
        """End the watch: the calls that it took note of, oldest first."""
        self._undo.close()
        kept, self._calls = self._calls, {}
        self._pads.clear()
        self._looks.clear()
        self._masked.clear()
        return [call for calls in kept.values() for call in calls]

    def answers(self, finding: Failure) -> bool:
        """transformers' own warnings about padding, once the calls were measured."""
        return bool(self._measured) and finding.kind == "warning" and bool(WARNINGS.search(finding.top.message))

    def _see_compiled(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Callable[[], None] | None:
        inner = unwrapped(model)
        known = any(base.__name__ == "PreTrainedModel" for base in type(inner).__mro__)
        return self._see("__call__", inner, args, kwargs) if known else None

    def _see(
        self, method: str, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], None] | None:
        if method == "generate":
            named: Mapping[str, Any] = {"input_ids": args[0], **kwargs} if args else kwargs
            ids = named.get("input_ids", named.get("inputs"))
        else:
            named = by_name(model, args, kwargs)
            ids = named.get("input_ids")
        if ids is None:
            return None
        number = id(model)
        pad = self._pads[number] if number in self._pads else self._pad(model)
        if (pad is None and not self._every) or not self._suspicious(method, model, ids, pad, named):
            return None
        mask = named.get("attention_mask")
        if (
            mask is not None and mask.shape != ids.shape
        ):  # one of the person's own for each pair of places, or for a cache
            return None
        looks = self._looks[number] = self._looks.get(number, 0) + 1
        if looks > LOOKS:
            return None
        source, line = _place()
        kept = self._calls.setdefault((number, method, source), [])
        nowhere = not line and not self._every
        if nowhere or len(kept) >= MOST or ids.dim() != 2 or extra(named, IGNORED[method]):
            return None
        tensor = type(ids)
        passed = {key: named.get(key) for key in ARGUMENTS}
        given = {key: value.detach() for key, value in passed.items() if value is not None and type(value) is tensor}
        asked = named.get("max_new_tokens")
        tokens = min(NEW_TOKENS, asked) if isinstance(asked, int) and asked > 0 else NEW_TOKENS
        call = Call(weakref.ref(model), method, {**given, "input_ids": ids.detach()}, source, tokens)
        kept.append(call)
        began = time.perf_counter()

        def ended() -> None:
            call.seconds = time.perf_counter() - began

        return ended

    def _pad(self, model: Any) -> int | None:
        """The padding token of a model, asked for once a cell; the notebook's tokenizers are looked at where it names none."""
        padding = padding_of(model, vars(sys.modules["__main__"]))
        self._pads[id(model)] = None if padding is None else padding.token
        return self._pads[id(model)]

    def _suspicious(self, method: str, model: Any, ids: Any, pad: int | None, named: Mapping[str, Any]) -> bool:
        """A few microseconds: this looks at every call. Of ids in device memory only what needs no reading."""
        if self._every or not ids.is_cpu:
            return True
        mask = named.get("attention_mask")
        if mask is not None:
            seen = self._masked[id(model)] = self._masked.get(id(model), 0) + 1
            if seen > COMPARED and seen % 4:
                return False
        count: Any = sys.modules["numpy"].count_nonzero  # the fastest way to ask an array this small
        here = ids.numpy() == pad
        if not count(here):
            decoder = named.get("decoder_input_ids")
            return decoder is not None and bool(count(decoder.numpy()[:, :2] == pad))
        if mask is None:
            return True
        if method == "generate" and not model.config.is_encoder_decoder and count(here[:, -1]):
            return True
        if method == "__call__" and count(here[:, 0]):
            return True
        return bool(count(mask.numpy()[here])) or named.get("decoder_input_ids") is not None

    def _finding(self, call: Call, scene: Scene) -> Failure | None:
        prepared = prepare(call, scene)
        if prepared is None:
            return None
        model, batch, padding, name, inputs = prepared
        cells = reversed([cell for cell in scene.cells if call.source in cell.source])
        observed = ((next((cell.label for cell in cells), "a cell"), call.source),)
        generates = call.method == "generate"
        if generates and not _generation_may_differ(model, batch, padding):
            return None
        within = scene.deadline.left
        hooks = has_own_hooks(model)
        if call.seconds <= within and not hooks:
            run = partial(measure, generates=generates, tokens=call.tokens, within=within)
            with contextlib.suppress(TooSlow):
                measured = run(model, batch, name, inputs, scene, observed)
                self._measured += 1
                return measured.finding
        cause = _suspicion(model, batch, generates)
        if not cause:
            return None
        rows, padded = len(batch.mask), int((batch.mask == 0).any(dim=1).sum())
        facts = {"model": name, "inputs": inputs, "unmasked": observed, "rows": rows, "padded": padded}
        told = {"method": "generate" if generates else "call", "side": batch.side, "model_class": type(model).__name__}
        edit = {"mask": batch.expression, "given": batch.holds_mask, "editable": False}
        edit["unmeasured"] = "hooks" if hooks else "slow"
        return Failure.from_finding("padding", SUSPECTED[cause], {**facts, **told, **edit})


def prepare(call: Call, scene: Scene, *, asked: bool = False) -> tuple[Any, Batch, Padding, str, str] | None:
    """The model, the padded batch, its padding token and the notebook's names of model and inputs; ``None`` without padding."""
    model = call.model()
    padding = None if model is None else padding_of(model, scene.namespace)
    if model is None or padding is None:
        return None
    names = _names(model, call, scene)
    batch = batch_of(model, call.given, padding, asked=asked, mask=names.mask)
    if batch is None:
        return None
    beside = names.mask if names.holder == names.inputs else None
    expressed = described(batch, names.inputs, names.mapping, beside, padding)
    if names.passes or (beside is None and gives(names.mask, batch)):
        holder = names.holder or names.inputs
        expressed = replace(expressed, expression=f'{holder}["attention_mask"]', holds_mask=names.passes)
    return model, expressed, padding, names.model, names.inputs


def _generation_may_differ(model: Any, batch: Batch, padding: Padding) -> bool:
    """Whether ``generate`` is called in a way that it cannot put right: it infers a mask unless padding and end are one token."""
    if not model.config.is_encoder_decoder and bool((batch.mask[:, -1] == 0).any()):
        return True
    return batch.contradicted or ("attention_mask" not in batch.given and padding.shared)


def _suspicion(model: Any, batch: Batch, generates: bool) -> str:
    """What is suspect in a call that was not measured; nothing in a decoder's with padding on the right, which it reads last."""
    if generates and not model.config.is_encoder_decoder and batch.side != "left":
        return "generation"
    if batch.side == "right" and not generates and reads_forward(model):
        return ""
    return "contradicted" if batch.contradicted else "" if "attention_mask" in batch.given else "mask"


def reads_forward(model: Any) -> bool:
    """Whether a model is a decoder: each place sees only those before it."""
    names: Any = sys.modules.get("transformers.models.auto.modeling_auto")
    kind = getattr(model.config, "model_type", None)
    if names is None or model.config.is_encoder_decoder:
        return False
    masked = getattr(names, "MODEL_FOR_MASKED_LM_MAPPING_NAMES", {})
    return kind in getattr(names, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", {}) and kind not in masked


def _place() -> tuple[str, int]:
    """The source line of the person's cell that is running, and its number; 0 when the call comes from elsewhere."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if re.match(CELL_FILE, code.co_filename):
            return linecache.getline(code.co_filename, frame.f_lineno).strip()[:120], frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "", 0


@dataclass(frozen=True)
class _Names:
    """What the program calls a watched call's model and inputs.

    ``mapping``: the inputs are a mapping that holds the ids; ``holder``: the mapping that holds a mask beside these very ids, ``mask``;
    ``passes``: the inputs hold a mask, though the name is bound to another batch by now, as after a loop.
    """

    model: str
    inputs: str
    mapping: bool = False
    holder: str = ""
    mask: Any = None
    passes: bool = False


def _names(model: Any, call: Call, scene: Scene) -> _Names:
    """The names by the notebook's variables; of several, those in the call's line. Words stand for what has no name."""
    ids = call.given["input_ids"]
    names = [name for name in scene.namespace if not name.startswith("_")]
    models = [name for name in names if _is_model(scene.namespace[name], model)]
    written = [name for name in models if re.search(rf"\b{re.escape(name)}\s*[(.]", call.source)]
    name = (written or models or ["the model"])[0]
    found: dict[str, Mapping[str, Any] | None] = {}
    for inputs in names:
        fields, held = _held(scene.namespace[inputs])
        if type(held) is type(ids) and held.shape == ids.shape and held.data_ptr() == ids.data_ptr():
            found[inputs] = fields
    holders = [
        name for name, fields in found.items() if fields is not None and fields.get("attention_mask") is not None
    ]
    holder = holders[-1] if holders else ""
    mask = (found[holder] or {})["attention_mask"] if holder else None
    named = [inputs for inputs in found if re.search(rf"\b{re.escape(inputs)}\b", call.source)]
    if not found and (looped := inputs_written(call.source, name)) is not None and looped[0] in scene.namespace:
        fields, held = _held(scene.namespace[looped[0]])
        other = (fields or {}).get("attention_mask")
        return _Names(name, looped[0], looped[1] and fields is not None, passes=is_mask(other, held))
    inputs = (named or ([holder] if holder else list(found)) or ["its inputs"])[0]
    return _Names(name, inputs, found.get(inputs) is not None, holder, mask)


def _held(value: Any) -> tuple[Mapping[str, Any] | None, Any]:
    """The fields of a mapping of inputs, and the ids in it; of a plain tensor no fields, and itself."""
    fields = vars(value).get("data") if hasattr(type(value), "convert_to_tensors") else value
    return (fields, fields.get("input_ids")) if type(fields) is dict else (None, value)


def _is_model(value: Any, model: Any) -> bool:
    return value is model or (type(value).__name__ == "OptimizedModule" and unwrapped(value) is model)
