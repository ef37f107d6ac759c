"""Names of a model output's fields that the program took for the fields: its output was unpacked like a tuple."""

from __future__ import annotations

import ast
import linecache
import re
import textwrap
from types import CodeType, MappingProxyType
from typing import Any, ClassVar

from tfdiag_ipython.diagnosis import Observation
from tfdiag_ipython.failure import Failure
from tfdiag_ipython.probe import Evidence, Probe, Scene
from tfdiag_ipython.probes._frame_values import FrameValues
from tfdiag_ipython.probes._module_calls import innermost_cell
from tfdiag_ipython.probes.model_call import is_model

FIELDS = re.compile(
    r"(?:encoder_|decoder_)?(?:last_hidden_state|hidden_states|attentions)|pooler_output|logits|loss|past_key_values|cross_attentions"
    r"|start_logits|end_logits|image_embeds|text_embeds"
)


class UnpackedOutputProbe(Probe):
    """The newest frame of a cell in the traceback: a local that holds a field's name, and the statement that unpacked it.

    Facts: ``variable``, ``field`` (the name that it holds), ``called`` (the model, as the unpacking calls it), ``model`` (its class).
    """

    name: ClassVar[str] = "unpacked-output"

    def look(self, failure: Failure, scene: Scene) -> Evidence:
        own = innermost_cell(scene.exception)
        torch = scene.module("torch")
        if own is None or torch is None:
            return Evidence(missing="no cell's frame is in this traceback")
        names = own.tb_frame.f_locals
        line = linecache.getline(own.tb_frame.f_code.co_filename, own.tb_lineno)
        used = set(re.findall(r"\w+", line))
        held = {name: value for name, value in list(names.items()) if type(value) is str and FIELDS.fullmatch(value)}
        if not used & set(held):
            return Evidence(missing="the failing line takes no text that is the name of a field")
        values = FrameValues(names, own.tb_frame.f_globals, torch)
        scene.deadline.check()
        for node in _assignments(own.tb_frame.f_code):
            target = node.targets[0]
            parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else []
            bound = [part.id for part in parts if isinstance(part, ast.Name) and part.id in held]
            if not bound or not isinstance(node.value, ast.Call):
                continue
            model = values.read(node.value.func)
            if is_model(model):
                name = next((one for one in bound if one in used), "")
                if not name:
                    continue
                called = ast.unparse(node.value.func)
                facts = {"variable": name, "field": held[name], "called": called, "model": type(model).__name__}
                seen = Observation(name, f"the text '{held[name]}'", f"frame `{own.tb_frame.f_code.co_name}`")
                return Evidence(MappingProxyType(facts), (seen,))
        return Evidence(missing="no model's output was unpacked into what failed")


def _assignments(code: CodeType) -> list[ast.Assign]:
    """The assignments in the source of this code object."""
    lines = linecache.getlines(code.co_filename)
    first = code.co_firstlineno - 1 if not code.co_name.startswith("<") else 0
    numbers = [line for _, _, line in code.co_lines() if line]
    last = max(numbers) if code.co_name[:1] != "<" and numbers else len(lines)
    for end in range(last, min(last + 20, len(lines)) + 1):
        try:
            tree: Any = ast.parse(textwrap.dedent("".join(lines[first:end])))
        except (SyntaxError, ValueError, RecursionError):
            continue
        return [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    return []
