from __future__ import annotations

import re
from collections.abc import Mapping

from tfdiag_ipython.diagnosis import Applicability, Certainty, Diagnosis, Fix
from tfdiag_ipython.failure import CELL_BODY, Failure
from tfdiag_ipython.fix import Plan
from tfdiag_ipython.fixes.cells import edit_cells
from tfdiag_ipython.fixes.source import dotted, edit_calls
from tfdiag_ipython.probe import Evidence, Scene
from tfdiag_ipython.probes.attribute_names import AttributeNamesProbe
from tfdiag_ipython.rule import Hit, Match, NoMatch, Offer, Reproduce, Rule, Try

ANSWERS = {
    "astype": ("NumPy's", "`.to(dtype)`"),
    "copy": ("NumPy's", "`.clone()`"),
    "to_numpy": ("pandas'", "`.numpy()`, after `.detach().cpu()` where it is on a GPU or has a gradient"),
    "to_list": ("pandas'", "`.tolist()`"),
    "append": ("a list's", "`torch.cat` or `torch.stack` make a new tensor"),
    "extend": ("a list's", "`torch.cat` makes a new tensor"),
    "len": ("", "`len(x)`, or `x.shape`"),
    "length": ("", "`len(x)`, or `x.shape`"),
    "get_shape": ("TensorFlow's", "`.shape`"),
}
"""Name → whose it is, and what does the same to a tensor."""
_TYPES = {
    "float16": "half",
    "float32": "float",
    "float64": "double",
    "float": "double",  # to NumPy
    "int8": "char",
    "uint8": "byte",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "int": "long",
    "bool": "bool",
}
TENSOR = "import torch\nx = torch.ones(2, 3)"


class ArrayMethodOfTensor(Rule):
    """A method of NumPy's arrays, of a list or of another library, or a function of torch, asked of a tensor.

    *What it means*
    A tensor has no such method; what does the same has another name, or is a function.

    *Why it happens*
    Code for arrays was taken over, or `torch.zeros(…)` was written as `x.zeros()`.

    *How tfdiag confirms it*
    The object is a `torch.Tensor`, and torch has a function of that very name, or the name stands in a short table.

    *Fixes and their safety*
    `use-tensor-method` (safe: it gives what the array's method gives) writes `.clone()`, `len(x)`, or for `.astype` of a named type the
    method of that type (`.float()`).

    *Example*
    `torch.ones(2).astype("float32")`.

    *References*
    PyTorch: `torch.Tensor`.
    """

    code = "IMP021"
    name = "array-method-of-tensor"
    raised = ("builtins.AttributeError",)
    message = re.compile(r"'\w+' object has no attribute '(?P<attribute>\w+)'")
    needs = (AttributeNamesProbe,)
    fixes = (Offer("use-tensor-method", Applicability.SAFE),)
    CASES = (
        Match(
            text="AttributeError: 'Tensor' object has no attribute 'astype'",
            evidence={
                "attribute-names": {
                    "attribute": "astype",
                    "kind": "Tensor",
                    "library": "torch",
                    "tensor": True,
                    "nearest": (),
                    "sure": False,
                    "callable": False,
                    "of": "",
                    "function": "",
                }
            },
            certainty=Certainty.CONFIRMED,
            title=r"`Tensor` has no `astype`, which is NumPy's: `.to\(dtype\)`",
        ),
        NoMatch(text="AttributeError: 'Tensor' object has no attribute 'astype'"),
        NoMatch(text="AttributeError: 'list' object has no attribute 'astype'"),
        Reproduce(
            (TENSOR, "import numpy as np\ny = x.astype(np.float32)  # single"),
            title=r"`Tensor` has no `astype`, which is NumPy's: `.to\(dtype\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-tensor-method"),),
        ),
        Reproduce(
            (TENSOR, "y = x.copy()"),
            title="`Tensor` has no `copy`, which is NumPy's: `.clone",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-tensor-method"),),
        ),
        Reproduce(  # a function that arrays are given, too, stays
            (TENSOR, "import numpy as np\ndef prep(a):\n    return a.copy()\nprep(np.ones(2))", "y = prep(x)"),
            title="`Tensor` has no `copy`, which is NumPy's: `.clone",
            certainty=Certainty.CONFIRMED,
            bare=True,
        ),
        Reproduce(
            (TENSOR, "count = x[0].len()"),
            title=r"`Tensor` has no `len`: `len\(x\)`",
            certainty=Certainty.CONFIRMED,
            fixes=(Try("use-tensor-method"),),
        ),
        Reproduce(
            (TENSOR, "y = x.zeros()"),
            title=r"`Tensor` has no `zeros`: it is a function, torch.zeros\(…\)",
            certainty=Certainty.CONFIRMED,
        ),
    )

    def diagnose(self, failure: Failure, hit: Hit, evidence: Mapping[str, Evidence]) -> Diagnosis | None:
        seen = evidence[AttributeNamesProbe.name]
        if not seen or not seen["tensor"] or seen["attribute"] != hit["attribute"]:
            return None
        name, kind = str(seen["attribute"]), seen["kind"]
        whose, answer = ANSWERS.get(name, ("", ""))
        fixes: tuple[Fix, ...] = ()
        if answer:
            title = f"`{kind}` has no `{name}`{f', which is {whose}' if whose else ''}: {answer}"
            if _calls_it_there(failure, name) and as_tensors_do(failure.source, name) != failure.source:
                fixes = (self.offer("use-tensor-method", "Write it as tensors do", "The same values.", name=name),)
        elif seen["function"]:
            title = f"`{kind}` has no `{name}`: it is a function, {seen['function']}(…)"
        else:
            return None
        return self.found(
            title,
            Certainty.CONFIRMED,
            what=f"A tensor has no method `{name}`.",
            why="The names of tensors and of arrays are alike, but not the same; some of torch's are functions only.",
            evidence=seen.seen,
            fixes=fixes,
        )

    def plan(self, diagnosis: Diagnosis, fix: Fix, scene: Scene) -> Plan:
        name = str(fix.parameters["name"])
        failing = scene.cell.source if scene.cell is not None else ""  # in others it may be called on arrays
        return edit_cells(scene, lambda source: as_tensors_do(source, name) if source == failing else source)


def _calls_it_there(failure: Failure, name: str) -> bool:
    """Whether the failing line of the cell itself calls it: what a function of the person's calls may be given arrays, too."""
    frames = failure.frames
    if not frames or not frames[-1].file.startswith("<cell") or not CELL_BODY.fullmatch(frames[-1].function):
        return False
    return bool(re.search(rf"\.\s*{name}\b", frames[-1].source))


def as_tensors_do(source: str, name: str) -> str:
    """The cell with the call of ``.name`` as tensors have it; as it is where there is more than one, or it says more."""
    import libcst as cst

    def accepts(call: cst.Call) -> bool:
        return isinstance(call.func, cst.Attribute) and call.func.attr.value == name

    def change(call: cst.Call) -> cst.BaseExpression:
        func = cst.ensure_type(call.func, cst.Attribute)
        if name == "astype" and len(call.args) == 1 and call.args[0].keyword is None:
            value = call.args[0].value
            named = str(value.evaluated_value) if isinstance(value, cst.SimpleString) else dotted(value)
            if named.startswith("torch."):
                return call.with_changes(func=func.with_changes(attr=cst.Name("to")))
            method = _TYPES.get(named.removeprefix("np.").removeprefix("numpy."), "")
            return call.with_changes(func=func.with_changes(attr=cst.Name(method)), args=[]) if method else call
        if call.args:
            return call
        if name == "len":
            return cst.Call(cst.Name("len"), [cst.Arg(func.value)])
        method = {"copy": "clone", "to_list": "tolist"}.get(name, "")
        return call.with_changes(func=func.with_changes(attr=cst.Name(method))) if method else call

    once = len(re.findall(rf"\.\s*{name}\b", source)) == 1
    return edit_calls(source, accepts, change) if once else source
