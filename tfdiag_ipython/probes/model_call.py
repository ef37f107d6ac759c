"""What the outermost call of a Transformers model was given, and where the program got it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import CELL_BODY, Failure
from tfdiag_ipython.fixes.source import MOST_WRITTEN, python_of
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._failing_call import calls_at
from tfdiag_ipython.probes._frame_values import UNKNOWN, FrameValues
from tfdiag_ipython.probes._module_calls import ModuleCall, in_cell, module_calls

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "decoder_input_ids", "labels")
"""Arguments whose tensors have a row for each text."""
ENDINGS = ("", ".__call__", ".encode", ".encode_plus", ".batch_encode_plus", ".pad")
"""Ends of a tokenizer's calls that take ``return_tensors=``."""
_READ = 64
"""Rows of a list that are looked at."""


class ModelCallProbe(Probe):
    """The outermost call of a model of Transformers in the traceback, from the frame that took its arguments; nothing is run.

    Facts: ``model`` (class), ``called`` (the model as the call writes it), ``method`` (empty or ``generate``),
    ``writes`` (its class has ``generate``), ``encoder_decoder``, ``argument`` (the first
    of its inputs that is no tensor; else ``input_ids``), ``kind`` (its class: ``list``, ``str``, ``BatchEncoding`` …), ``holds`` (what a
    list holds within: ``int``, ``str``, ``Tensor`` …), ``nested`` (it is a list of lists), ``rows`` (how many it has), ``lengths`` (of its rows, each once),
    ``names`` (of all arguments), ``positional`` (how many come without a name), ``dimensions`` (of a tensor, by argument), ``size``, ``keys`` (of a mapping), ``tensors`` (all its values are), ``unknown`` (keys that
    the model does not take), ``variable`` (that the call takes the input from), ``spread`` (by ``**``), ``mapping`` (it holds the ids),
    ``tokenizer`` (variable whose call made it), ``asked`` (arguments of that call), ``ignored`` (one of them that is almost ``return_tensors``),
    ``pads`` (the tokenizer has a padding token), ``written`` (the call), ``inside`` (it stands in a function).
    """

    name: ClassVar[str] = "model-call"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        torch = scene.module("torch")
        given = outermost(scene.exception, torch) if torch is not None else None
        if given is None:
            return Evidence(missing="no call of a model of Transformers is in this traceback")
        arguments = arguments_of(given)
        odd = (name for name in INPUTS if not _is_tensor(arguments.get(name)) and arguments.get(name) is not None)
        argument = next(odd, "input_ids")
        value: Any = arguments.get(argument)
        scene.deadline.check()
        facts: dict[str, Any] = {
            "model": type(given.module).__name__,
            "method": "generate" if given.generates else "",
            "argument": argument,
            "writes": hasattr(type(given.module), "generate"),
            "encoder_decoder": getattr(given.module, "__dict__", {}).get("config", None) is not None
            and given.module.__dict__["config"].__dict__.get("is_encoder_decoder") is True,
            "kind": type(value).__name__,
            "names": tuple(sorted(name for name, one in arguments.items() if one is not None)),
            "positional": len(given.args),
            "dimensions": {name: one.dim() for name, one in arguments.items() if _is_tensor(one)},
            "size": value.numel() if _is_tensor(value) else 0,
        }
        facts |= _listed(value) | _mapped(value, given.module)
        facts |= _origin(given, argument, scene, torch)
        told = _told(facts, value)
        source = f"the call of {facts['model']}{'.generate' if given.generates else ''}"
        return Evidence(MappingProxyType(facts), (Observation(f"`{argument}` is", told, source),))


def outermost(exception: BaseException | None, torch: Any) -> ModuleCall | None:
    """The first call of one of Transformers' models on the way down."""
    return next((call for call in module_calls(exception, torch) if is_model(call.module)), None)


def arguments_of(call: ModuleCall) -> dict[str, Any]:
    """The arguments by name; the first positional one is the model's main input, mostly the ids (``inputs`` of ``generate``)."""
    given = dict(call.kwargs)
    if call.args:  # pictures and sound have names of their own
        first = getattr(type(call.module), "main_input_name", "input_ids")
        given[first if isinstance(first, str) else "input_ids"] = call.args[0]
    elif call.generates and "inputs" in given:
        given["input_ids"] = given.pop("inputs")
    return given


def is_model(value: object) -> bool:
    """Whether its class is one of Transformers' models, or comes with a checkpoint: what one's own takes is not known."""
    kind = type(value)
    bases = (f"{base.__module__}.{base.__name__}" for base in kind.__mro__)
    ours = str(kind.__module__).startswith(("transformers.", "transformers_modules."))
    return ours and "transformers.modeling_utils.PreTrainedModel" in bases


def is_tokenizer(value: object) -> bool:
    return any(base.__name__ == "PreTrainedTokenizerBase" for base in type(value).__mro__)


def _is_tensor(value: object) -> bool:
    return any(base.__name__ == "Tensor" and base.__module__ == "torch" for base in type(value).__mro__)


def _listed(value: Any) -> dict[str, Any]:
    """What a list holds: nothing of it is run."""
    rows = list(value[:_READ]) if type(value) in (list, tuple) else []
    nested = bool(rows) and all(type(row) in (list, tuple) for row in rows)
    inner = next((one for row in rows for one in row), None) if nested else next(iter(rows), None)
    return {
        "holds": type(inner).__name__ if rows else "",
        "nested": nested,
        "rows": len(value) if rows else 0,
        "lengths": tuple(sorted({len(row) for row in rows})) if nested else (),
    }


def _mapped(value: Any, model: Any) -> dict[str, Any]:
    """The keys of a tokenizer's batch or a dictionary, and those that the model does not take."""
    data = vars(value).get("data") if type(value).__name__ == "BatchEncoding" else value
    if type(data) is not dict:
        return {"keys": (), "tensors": False, "unknown": ()}
    forward: Any = inspect.unwrap(type(model).forward)
    code = getattr(forward, "__code__", None)
    taken = getattr(code, "co_varnames", ())
    takes_any = code is None or bool(code.co_flags & inspect.CO_VARKEYWORDS)
    keys = tuple(str(key) for key in data)
    return {
        "keys": keys,
        "tensors": bool(data) and all(map(_is_tensor, data.values())),
        "unknown": () if takes_any else tuple(key for key in keys if key not in taken),
    }


def _origin(given: ModuleCall, argument: str, scene: Scene, torch: Any) -> dict[str, Any]:
    """Where the program's call takes the input from, and the tokenizer's call that made it."""
    nowhere: dict[str, Any] = {"called": "", "variable": "", "spread": False, "mapping": False}
    nowhere |= {"tokenizer": "", "asked": (), "ignored": "", "pads": False, "written": "", "inside": False}
    if given.caller is None or not in_cell(given.caller):
        return nowhere
    frame = given.caller.tb_frame
    values = FrameValues(frame.f_locals, frame.f_globals, torch)
    call = _call_of(given, given.caller, values)
    if call is None or any(isinstance(arg, ast.Starred) for arg in call.args):  # handed on: another call tells
        return nowhere
    expression, spread = _given_as(call, argument)
    variable, mapping = _variable(expression, spread)
    facts = nowhere | {
        "called": ast.unparse(call.func),
        "written": ast.unparse(call)[:MOST_WRITTEN],
        "inside": not CELL_BODY.fullmatch(frame.f_code.co_name),
        "variable": variable,
        "spread": spread,
        "mapping": mapping,
    }
    made = expression if not variable else _assigned(variable, scene, given.caller)
    scene.deadline.check()
    for node in ast.walk(made) if made is not None else ():
        name = _tokenizer_called(node, values) if isinstance(node, ast.Call) else ""
        if name and isinstance(node, ast.Call):
            asked = tuple(word.arg for word in node.keywords if word.arg)
            near = next(
                (
                    one
                    for one in asked
                    if one in ("return_tensor", "return_tensor_type", "return_pt", "returns_tensors")
                ),
                "",
            )
            tokenizer = values.read(ast.parse(name, mode="eval").body)
            has = getattr(tokenizer, "_special_tokens_map", {}).get("pad_token")
            pads = bool(has or getattr(tokenizer, "_pad_token", None))
            return facts | {"tokenizer": name, "asked": asked, "ignored": near, "pads": pads}
    return facts


def _call_of(given: ModuleCall, caller: TracebackType, values: FrameValues) -> ast.Call | None:
    """The call of this model in the line of its caller."""
    found = []
    for node in calls_at(caller):
        func = node.func
        if given.generates:
            func = func.value if isinstance(func, ast.Attribute) and func.attr == "generate" else ast.Constant(None)
        if values.read(func) is given.module:
            found.append(node)
    return found[0] if len(found) == 1 else None


def _given_as(call: ast.Call, argument: str) -> tuple[ast.expr | None, bool]:
    """The expression that the argument has in a call, and whether it is spread into it."""
    names = (argument, "inputs") if argument == "input_ids" else (argument,)
    named = next((word.value for word in call.keywords if word.arg in names), None)
    if named is not None:
        return named, False
    if argument == "input_ids" and call.args and not isinstance(call.args[0], ast.Starred):
        return call.args[0], False
    spread = [word.value for word in call.keywords if word.arg is None]
    return (spread[0], True) if len(spread) == 1 else (None, False)


def _variable(value: ast.expr | None, spread: bool) -> tuple[str, bool]:
    """The variable of ``batch``, ``batch["input_ids"]`` or ``batch.input_ids``, and whether it is a mapping that holds the ids."""
    if isinstance(value, ast.Name):
        return value.id, spread
    inner = value.value if isinstance(value, (ast.Subscript, ast.Attribute)) else None
    return (inner.id, True) if isinstance(inner, ast.Name) else ("", False)


def _assigned(name: str, scene: Scene, caller: TracebackType) -> ast.expr | None:
    """What the newest assignment binds a name to in its own scope: the function that calls, or the notebook."""
    frame = caller.tb_frame
    local = frame.f_locals is not frame.f_globals and name in frame.f_locals
    handed_on = local and frame.f_globals.get(name) is frame.f_locals[name]  # the notebook's, under the same name
    for cell in reversed(scene.cells):
        scene.deadline.check()
        try:
            tree = ast.parse(python_of(cell.source) or "")
        except (SyntaxError, ValueError, RecursionError):
            continue
        functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        inside = {id(one) for function in functions for one in ast.walk(function)}
        own = {id(one) for node in functions if node.name == frame.f_code.co_name for one in ast.walk(node)}
        found = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)
            and ((local and id(node) in own) or ((handed_on or not local) and id(node) not in inside))
        ]
        if found:
            return max(found, key=lambda one: one.lineno).value
    return None


def _tokenizer_called(call: ast.Call, values: FrameValues) -> str:
    """The tokenizer, as it is written, that this call encodes with; empty for another call."""
    written = ast.unparse(call.func)
    for ending in ENDINGS:
        inner: ast.expr = call.func
        if ending:
            if not isinstance(inner, ast.Attribute) or f".{inner.attr}" != ending:
                continue
            inner = inner.value
        value = values.read(inner)
        if value is not UNKNOWN and is_tokenizer(value):
            return written.removesuffix(ending) if ending else written
    return ""


def _told(facts: Mapping[str, Any], value: Any) -> str:
    if facts["rows"]:
        inner = f"lists of {facts['holds']}" if facts["nested"] else facts["holds"]
        lengths = facts["lengths"]
        long = f", of lengths {lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else ""
        return f"a {facts['kind']} of {facts['rows']} × {inner}{long}"
    if facts["keys"]:
        return f"a {facts['kind']} with {', '.join(facts['keys'][:6])}"
    shape = getattr(value, "shape", None)
    return (
        f"a {facts['kind']} of shape {tuple(shape)}"
        if type(value).__name__ in ("Tensor", "ndarray") and shape is not None
        else f"of class {facts['kind']}"
    )
