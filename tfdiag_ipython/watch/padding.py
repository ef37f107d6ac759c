"""Calls of Transformers models whose ids are padded and whose masks do not say so, while a cell runs."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from tfdiag_ipython.failure import Failure
from tfdiag_ipython.fixes.source import one_line
from tfdiag_ipython.probe import Scene
from tfdiag_ipython.probes.own_hooks import has_own_hooks
from tfdiag_ipython.probes.padding import measure, shown, unwrapped
from tfdiag_ipython.probes.padding_batch import ARGUMENTS, Batch, extra, infers_mask, padding_of
from tfdiag_ipython.probes.padding_places import counts_padding
from tfdiag_ipython.probes.padding_runs import NEW_TOKENS, TooSlow
from tfdiag_ipython.watch.imports import after_import
from tfdiag_ipython.watch.model_calls import by_name, calls_of
from tfdiag_ipython.watch.padding_calls import Call, Samples
from tfdiag_ipython.watch.padding_names import prepare

SUSPECTED = {
    "mask": "A call passes padded ids and no attention mask.",
    "contradicted": "A call passes padded ids and a mask that does not say so.",
    "generation": "A decoder-only model was asked to go on from rows that end in padding.",
    "positions": "A model that counts positions from the row's start was given rows that begin with padding.",
}
"""What is said where nothing was measured."""
WATCHED = {
    "transformers.modeling_utils": "PreTrainedModel",
    "transformers.generation.utils": "GenerationMixin",
    "torch._dynamo.eval_frame": "OptimizedModule",  # what `torch.compile` makes of a model; its calls go past the model's own
}
"""Classes whose calls are seen, by module."""
COMPARED = 100
"""Calls of one model with a mask that are compared with the padding; after that every fourth, which keeps the price of a call down."""
HARMLESS = 4
"""Measured calls of a line that suffice, where nothing is wrong with them, for all of their kind."""
WARNINGS = re.compile(
    r"(?P<side>right-padding was detected)"
    r"|(?P<mask>input_ids may be padded|attention mask (?:and the pad token id were|is) not set)"
)
"""What the library itself says of calls that are measured here, by what it is about."""
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


class PaddingWatch:
    """Takes note of the outermost calls of Transformers models; measures the suspicious ones when the cell has ended.

    What no measurement confirms is not reported, unless measuring would take too long; then it is said to be suspected where the
    kind of model leaves little doubt. Ids in device memory are not read before the cell has ended: reading them waits for the device.
    So each of their calls may be suspicious, and of a line's calls a sample is kept.
    ``every`` takes note of all calls, suspicious or not, for a caller that measures them itself.
    """

    watched = "unmasked padding"

    def __init__(self, *, every: bool = False) -> None:
        self._every = every
        self._samples = Samples()
        self._pads: dict[int, int | None] = {}
        self._masked: dict[int, int] = {}
        self._measured = 0
        self._said: set[str | None] = set()
        self._harmless: Counter[tuple[object, ...]] = Counter()
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
        self._pads.clear()
        self._masked.clear()
        return self._samples.end()

    def answers(self, finding: Failure) -> bool:
        """transformers' own warnings about padding, once the calls were measured; else all but the first about the same thing."""
        known = WARNINGS.search(finding.top.message) if finding.kind == "warning" else None
        if known is None:
            return False
        said = known.lastgroup in self._said
        self._said.add(known.lastgroup)
        return said or bool(self._measured)

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
        if mask is not None and mask.shape != ids.shape:  # the person's own for each pair of places, or for a cache
            return None
        if ids.dim() != 2 or extra(named, IGNORED[method]):
            return None
        sample = self._samples.of(model, method, anywhere=self._every)
        if sample is None:
            return None
        tensor = type(ids)
        given = {key: value for key, value in named.items() if type(value) is tensor and key in ARGUMENTS}
        if mask is not None and "attention_mask" not in given:
            return None
        asked = named.get("max_new_tokens")
        tokens = min(NEW_TOKENS, asked) if isinstance(asked, int) and asked > 0 else NEW_TOKENS
        told = named.get("generation_config", args[1] if method == "generate" and len(args) > 1 else None)
        filler = named.get("pad_token_id", getattr(told, "pad_token_id", None))
        call = Call(weakref.ref(model), method, {**given, "input_ids": ids}, sample.source, tokens, filler)
        sample.add(call)
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
        if count(here[:, 0]) and (method == "__call__" or model.config.is_encoder_decoder):
            return True
        return bool(count(mask.numpy()[here])) or named.get("decoder_input_ids") is not None

    def _finding(self, call: Call, scene: Scene) -> Failure | None:
        prepared = prepare(call, scene)
        if prepared is None:
            return None
        model, batch, padding, name, inputs = prepared
        cells = reversed([cell for cell in scene.cells if call.source in one_line(cell.source)])
        observed = ((next((cell.label for cell in cells), "a cell"), call.source),)
        generates = call.method == "generate"
        knows = not generates or padding.token in _told(model, call)
        lacks = "attention_mask" not in batch.given and not bool(batch.mask.all())
        lacks = lacks and not (generates and infers_mask(model, padding, knows=knows))
        if generates and not (lacks or _generation_may_differ(model, batch)):
            return None
        kind = (id(model), call.method, call.source, "attention_mask" in batch.given, batch.contradicted, batch.side)
        if self._harmless[kind] >= HARMLESS:
            return None
        within = scene.deadline.left
        hooks = has_own_hooks(model)
        if call.seconds <= within and not hooks:
            run = partial(measure, generates=generates, tokens=call.tokens, knows=knows, within=within)
            with contextlib.suppress(TooSlow):
                measured = run(model, batch, name, inputs, scene, observed)
                self._measured += 1
                self._harmless[kind] += measured.finding is None
                return measured.finding
        cause = _suspicion(model, batch, lacks, generates)
        if not cause or self._harmless[kind]:
            return None
        rows, padded = len(batch.mask), int((batch.mask == 0).any(dim=1).sum())
        facts = {"model": name, "inputs": inputs, "unmasked": shown(observed), "rows": rows, "padded": padded}
        told = {"method": "generate" if generates else "call", "side": batch.side, "model_class": type(model).__name__}
        edit = {"mask": batch.expression, "given": batch.holds_mask, "editable": False}
        edit["unmeasured"] = "hooks" if hooks else "slow"
        return Failure.from_finding("padding", SUSPECTED[cause], {**facts, **told, **edit})


def _told(model: Any, call: Call) -> list[Any]:
    """Padding tokens that ``generate`` was told, or else may have from the model."""
    own = (getattr(vars(model).get(name), "pad_token_id", None) for name in ("config", "generation_config"))
    return [*own] if call.pad is None else [call.pad]


def _generation_may_differ(model: Any, batch: Batch) -> bool:
    """Whether ``generate`` cannot put right where the padding is: it makes a decoder's positions from the mask, but not an encoder's."""
    if model.config.is_encoder_decoder:
        return batch.contradicted or batch.begins_padded
    return batch.contradicted or bool((batch.mask[:, -1] == 0).any())


def _suspicion(model: Any, batch: Batch, lacks: bool, generates: bool) -> str:
    """What is suspect in a call that was not measured; nothing in a decoder's with padding on the right, which it reads last."""
    if generates and not model.config.is_encoder_decoder and batch.side != "left":
        return "generation"
    if batch.side == "right" and not generates and reads_forward(model):
        return ""
    if batch.contradicted:
        return "contradicted"
    if lacks and "attention_mask" in inspect.signature(model.forward).parameters:
        return "mask"
    moves = batch.side == "left" and "position_ids" not in batch.given and counts_padding(model)
    return "positions" if moves and (model.config.is_encoder_decoder or not generates) else ""


def reads_forward(model: Any) -> bool:
    """Whether a model is a decoder: each place sees only those before it."""
    names: Any = sys.modules.get("transformers.models.auto.modeling_auto")
    kind = getattr(model.config, "model_type", None)
    if names is None or model.config.is_encoder_decoder:
        return False
    masked = getattr(names, "MODEL_FOR_MASKED_LM_MAPPING_NAMES", {})
    return kind in getattr(names, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", {}) and kind not in masked
